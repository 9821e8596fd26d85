from __future__ import annotations

import threading

import pytest

from windlassd.envs._turns import Turns
from windlassd.envs.base import EnvironmentStopped


@pytest.fixture(autouse=True)
def one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_BUILDS", "1")


class Worker:
    """A thread that takes a turn and keeps it until it is told."""

    def __init__(self, turns: Turns) -> None:
        self.waits, self.works, self.may_end, self.stop = (threading.Event() for _ in range(4))
        self.stopped = False
        self._turns = turns
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self._turns.turn(lambda line: self.waits.set(), self.stop):
                self.works.set()
                self.may_end.wait(10)
        except EnvironmentStopped:
            self.stopped = True

    def end(self) -> None:
        self.may_end.set()
        self.thread.join(10)


def test_one_works_and_the_others_follow_in_the_order_they_came() -> None:
    turns = Turns()
    first = Worker(turns)
    assert first.works.wait(10)
    second = Worker(turns)
    assert second.waits.wait(10)
    third = Worker(turns)
    assert third.waits.wait(10)
    first.end()
    assert second.works.wait(10)
    assert not third.works.is_set()
    second.end()
    assert third.works.wait(10)
    third.end()


def test_who_comes_when_a_place_gets_free_lets_those_go_first_who_wait_already() -> None:
    turns = Turns()
    for _ in range(20):  # whoever takes what is free out of turn would win nearly each time: it need not wake up first
        with turns.turn(lambda line: None, threading.Event()):
            waiting = Worker(turns)
            assert waiting.waits.wait(10)
            waiting.may_end.set()
        with turns.turn(lambda line: None, threading.Event()):
            assert waiting.works.is_set()
        waiting.end()


def test_who_is_stopped_while_it_waits_holds_nobody_up() -> None:
    turns = Turns()
    first = Worker(turns)
    assert first.works.wait(10)
    second = Worker(turns)
    assert second.waits.wait(10)
    third = Worker(turns)
    assert third.waits.wait(10)
    second.stop.set()
    second.thread.join(10)
    assert second.stopped
    first.end()
    assert third.works.wait(10)
    third.end()


def test_a_larger_setting_holds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    first = Worker(turns)
    assert first.works.wait(10)
    second = Worker(turns)
    assert second.waits.wait(10)
    monkeypatch.setenv("WINDLASS_ENVIRONMENT_BUILDS", "2")
    assert second.works.wait(10)
    first.end()
    second.end()
