"""The table of transitions is that of SPEC section 2."""

from __future__ import annotations

import itertools

import pytest

from windlass.specs.status import ALLOWED, FINAL, HELD_A_NODE, RunStatus, may_follow

S = RunStatus
ORDER = [S.NOT_STARTED, S.STARTING, S.PROVISIONING, S.PREPARING, S.QUEUED, S.RUNNING, S.FINALIZING]
EVERY = list(RunStatus)


def test_the_names_are_v1s() -> None:
    assert [str(s) for s in EVERY] == [
        "NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested",
        "NotResponding", "Completed", "Failed", "Canceled",
    ]  # fmt: skip


def test_every_status_has_its_row() -> None:
    assert set(ALLOWED) == set(EVERY)
    assert {S.COMPLETED, S.FAILED, S.CANCELED} == FINAL
    assert {s for s in EVERY if s.final} == FINAL


def test_a_finished_run_never_changes() -> None:
    assert not [pair for pair in itertools.product(FINAL, EVERY) if may_follow(*pair)]


def test_the_order_is_kept_some_are_skipped_and_none_is_repeated() -> None:
    for (i, before), (j, after) in itertools.product(enumerate(ORDER), repeat=2):
        assert may_follow(before, after) is (j > i), (before, after)
    assert not [s for s in EVERY if may_follow(s, s)]


def test_every_unfinished_run_may_fail() -> None:
    assert all(may_follow(s, S.FAILED) for s in EVERY if not s.final)


def test_canceled_only_after_it_was_asked_for() -> None:
    assert {s for s in EVERY if may_follow(s, S.CANCELED)} == {S.CANCEL_REQUESTED}
    assert {s for s in EVERY if may_follow(s, S.CANCEL_REQUESTED)} == {*ORDER, S.NOT_RESPONDING} - {S.FINALIZING}
    assert ALLOWED[S.CANCEL_REQUESTED] == FINAL


def test_not_responding_and_back() -> None:
    assert {s for s in EVERY if may_follow(s, S.NOT_RESPONDING)} == {S.RUNNING, S.FINALIZING}
    assert may_follow(S.NOT_RESPONDING, S.RUNNING) and not may_follow(S.NOT_RESPONDING, S.QUEUED)


@pytest.mark.parametrize("before", ORDER[:-2])
def test_only_what_ran_completes(before: RunStatus) -> None:
    assert not may_follow(before, S.COMPLETED)
    assert all(may_follow(s, S.COMPLETED) for s in HELD_A_NODE)
