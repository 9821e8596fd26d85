"""A lease by a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from windlassd.agent.lease import Lease


class Clock:
    """Seconds, as the test says; ``looked`` is set whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looked = threading.Event()

    def __call__(self) -> float:
        self.looked.set()
        return self.now

    def wait_for_a_look(self) -> None:
        """Return when somebody looked twice since: the first look may have begun before."""
        for _ in range(2):
            self.looked.clear()
            assert self.looked.wait(20)


class Held:
    """A lease of a second, and whether it lapsed."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lapsed = threading.Event()
        self.lease = Lease(self.lapsed.set, self.clock)


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.lease.end()


def test_it_lapses_a_lease_after_the_last_call_that_was_answered_was_begun(held: Held) -> None:
    held.lease.hold(1.0)
    held.clock.now = 100.9
    held.lease.answered(100.5)
    held.clock.now = 101.4
    held.clock.wait_for_a_look()
    assert not held.lapsed.is_set()
    held.clock.now = 101.5
    assert held.lapsed.wait(20)


def test_an_answer_to_an_older_call_changes_nothing(held: Held) -> None:
    held.lease.hold(1.0)
    held.lease.answered(100.5)
    held.lease.answered(100.1)
    held.clock.now = 101.4
    held.clock.wait_for_a_look()
    assert not held.lapsed.is_set()


def test_it_counts_from_when_it_is_held_at_the_earliest(held: Held) -> None:
    held.clock.now = 500.0
    held.lease.hold(1.0)
    held.clock.wait_for_a_look()
    assert not held.lapsed.is_set()


def test_a_jump_of_the_clock_is_noticed_soon(held: Held) -> None:
    held.lease.hold(1.0)
    held.clock.wait_for_a_look()
    held.clock.now = 5000.0  # the machine was suspended
    assert held.lapsed.wait(20)


def test_once_ended_it_does_not_lapse(held: Held) -> None:
    held.lease.hold(1.0)
    held.lease.end()
    held.clock.now = 5000.0
    watchers = [t for t in threading.enumerate() if t.name == "lease"]
    for watcher in watchers:
        watcher.join(20)
        assert not watcher.is_alive()
    assert not held.lapsed.is_set()
