"""Nodes that are lost under real runs (engine ``apart``): what comes back, what is begun anew, what is kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from path import test_elsewhere
from path.test_elsewhere import Apart, is_alive
from windlass.specs.status import RunStatus
from windlassd.testing.apart import lose_place
from windlassd.testing.harness import kill

apart = test_elsewhere.apart
TWICE = """
    import os, signal, sys
    first = not os.path.exists(sys.argv[1])
    open("outputs/attempt.txt", "w").write("first" if first else "second")
    open(sys.argv[1], "a").write("%d\\n" % os.getpid())
    print("first" if first else "second", flush=True)
    while first:
        signal.pause()
"""
"""A script that waits for ever when it runs for the first time; its argument names the file in which it counts."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LEASE_S", "1"), ("HEARTBEAT_S", "0.1"), ("HEARTBEAT_TIMEOUT_S", "1")):
        monkeypatch.setenv(f"WINDLASS_{name}", value)


def begun(apart: Apart, count: Path, **spec: object) -> str:
    """A run whose first attempt waits."""
    run_id = apart.workspace.submit(TWICE, str(count), target="far", **spec)
    apart.workspace.wait_for_text(run_id, "first")
    return run_id


def test_a_run_whose_agent_was_killed_is_begun_anew(apart: Apart, tmp_path: Path) -> None:
    run_id = begun(apart, tmp_path / "count", max_retries=1)
    kill(apart.agent(run_id))
    record = apart.workspace.wait(run_id)
    assert (record.status, record.attempt) == (RunStatus.COMPLETED, 2), record.reason
    assert apart.workspace.read(run_id, "outputs/attempt.txt") == b"second"
    before = Path(apart.workspace.dir, "runs", run_id, "attempts", "1")
    assert "first" in (before / "files" / "azureml-logs" / "70_driver_log.txt").read_text()
    told = [entry["reason"]["code"] for entry in record.history if entry["reason"]]
    assert told.index("heartbeat_lost") < told.index("retrying") < told.index("completed")


def test_one_whose_place_was_taken_is_begun_anew_at_once(apart: Apart, tmp_path: Path) -> None:
    run_id = begun(apart, tmp_path / "count", max_retries=1)
    lose_place(str(apart.homes / "places" / f"{run_id}.1.0"))
    record = apart.workspace.wait(run_id)
    assert (record.status, record.attempt) == (RunStatus.COMPLETED, 2), record.reason
    assert len((tmp_path / "count").read_text().split()) == 2


def test_no_process_of_the_first_attempt_lives_when_the_second_begins(
    apart: Apart,
    tmp_path: Path,
) -> None:
    """Its agent is stopped, as if the link were cut, and goes on later."""
    run_id = begun(apart, tmp_path / "count", max_retries=1)
    agent = apart.agent(run_id)
    server = apart.workspace.server_pid()
    os.kill(server, signal.SIGSTOP)  # nobody answers: the lease lapses
    first = int((tmp_path / "count").read_text())
    apart.wait_until(lambda: not is_alive(first))
    os.kill(server, signal.SIGCONT)
    record = apart.workspace.wait(run_id)
    assert (record.status, record.attempt) == (RunStatus.COMPLETED, 2), record.reason
    apart.wait_until(lambda: not is_alive(agent))


def test_without_retries_a_killed_agent_fails_its_run_in_words(apart: Apart, tmp_path: Path) -> None:
    run_id = begun(apart, tmp_path / "count")
    kill(apart.agent(run_id))
    record = apart.workspace.wait(run_id)
    assert record.status is RunStatus.FAILED
    assert record.reason is not None
    assert record.reason.code == "node_lost"
    assert "far-0" in record.reason.message and "max_retries" in record.reason.message
