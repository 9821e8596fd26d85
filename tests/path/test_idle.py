"""A server that ends for want of work leaves nothing behind that a killed client has logged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from windlass.specs.status import RunStatus
from windlassd.store.sql import SqlStore
from windlassd.testing.harness import Workspace

POINTS = list(range(500))


class Client:
    """A process that has a ``run``, and logs into it when it is told to."""

    def __init__(self, folder: Path, run: str) -> None:
        text = f"""
            from azureml.core import Experiment, Run, Workspace
            workspace = Workspace.get("test")
            run = {run}
            print(run.id, flush=True)
            input()
            for value in range({len(POINTS)}):
                run.log("late", value)
            print("logged", flush=True)
            input()
            """
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(text)],
            cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.run_id = self._line()

    def log_and_be_killed(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self._line() == "logged"
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The server takes nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def soon_idle(home: Path) -> None:
    (home / "settings.json").write_text('{"server_idle_s": 0.1}')


def test_it_does_not_end_before_a_killed_clients_run_is_whole(workspace: Workspace, home: Path, tmp_path: Path) -> None:
    soon_idle(home)
    workspace.client.get("/v1/server")
    client = Client(tmp_path, "Experiment(workspace, 'exp').start_logging(snapshot_directory=None)")
    with stopped(workspace.server_pid()):
        client.log_and_be_killed()
    workspace.wait_until_gone()
    store = SqlStore.open(workspace.dir)
    try:
        assert store.read(lambda tx: tx.get_run(client.run_id)).status is RunStatus.FAILED
        (late,) = store.read(lambda tx: tx.series(client.run_id, "late"))
        assert list(late.values) == POINTS
    finally:
        store.close()


@pytest.mark.faults
def test_what_was_logged_into_an_ended_run_from_outside_comes_in_at_the_next_start(
    workspace: Workspace, home: Path, tmp_path: Path
) -> None:
    run_id = workspace.submit("print(1)")
    workspace.wait(run_id)
    client = Client(tmp_path, f"Run.get(workspace, {run_id!r})")
    with stopped(workspace.server_pid()):
        soon_idle(home)
        client.log_and_be_killed()
    workspace.wait_until_gone()
    assert os.listdir(os.path.join(workspace.dir, "clients", run_id)), "it was killed before it could send them"
    assert workspace.values(run_id, "late") == POINTS
    assert not os.path.exists(os.path.join(workspace.dir, "clients", run_id))
