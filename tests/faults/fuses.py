"""Runs that carry a fuse: at a chosen line, call or return inside the agent or the keeper, chosen processes are killed.

A home is fused by naming, as the interpreter of its servers, a script that puts ``fuse/`` on the path first; whatever
starts a server or an agent there, starts a fused one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from inotify_simple import INotify, flags

from conftest import processes_of
from faults.evidence import Witnessed, left_over
from windlass.specs.run import RunRecord
from windlassd.blobs.files import leftovers
from windlassd.testing.harness import Workspace

FUSE_DIR = Path(__file__).with_name("fuse")
WORKS = """
    import subprocess
    with open(os.environ["DIARY"] + ".starts", "a") as f:
        f.write("x")
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    for part in range(3):
        diary.log(run, 40)
        diary.say(5)
        diary.keep(2)
    with open(os.environ["DIARY"] + ".over", "w"):
        pass
"""
"""A script that does some of everything, and leaves a process behind."""


def fuse_home(home: Path) -> None:
    """Fuse the agents of a home."""
    python = home / "python-with-fuse"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{FUSE_DIR}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    (home / "interpreter.json").write_text(json.dumps({"python": str(python)}))


class Fused(Witnessed):
    """A witnessed run with a fuse.

    Args:
        role: Whose lines count: ``agent`` or ``keeper``.
        at: ``FILE:FUNCTION:call`` or ``…:return``; or give ``line``, a number of lines from the order on.
        victims: Who is killed: ``agent``, ``keeper``, ``nursery``, ``script``, ``server``; the one that counts last.
    """

    def __init__(
        self, workspace: Workspace, folder: Path, *, role: str = "agent", at: str = "", line: int = 0,
        victims: Sequence[str] = ("agent",), text: str = WORKS, number: int = signal.SIGKILL,
    ) -> None:  # fmt: skip
        fuse = {"role": role, "at": at, "line": line or None, "victims": list(victims), "signal": int(number)}
        super().__init__(workspace, folder, text)
        self.blown_file, self.report_file = Path(self.diary.path + ".blown"), Path(self.diary.path + ".report")
        fuse |= {"blown": str(self.blown_file), "report": str(self.report_file)}
        self._spec["environment_variables"] = {"FUSE": json.dumps(fuse)}
        self.name = f"{','.join(victims)} killed at {at or f'line {line}'} of the {role}"

    def limit_s(self, seconds: int) -> None:
        """Give the run a time limit."""
        self._spec["max_run_duration_s"] = seconds

    @property
    def starts(self) -> int:
        """How often the script was started."""
        try:
            return len(Path(self.diary.path + ".starts").read_text())
        except FileNotFoundError:
            return 0

    @property
    def over(self) -> bool:
        """True when the script got to its last line."""
        return os.path.exists(self.diary.path + ".over")

    def check_lines(self, channel: int = 1) -> None:
        """As its base, but a script that was never started has no log."""
        if self.starts:
            super().check_lines(channel)

    def settle(self, home: Path) -> RunRecord:
        """Wait for the end, hold the record against the diary, and look that nothing of the run is left."""
        status = self.workspace.wait(self.id).status.value
        record = self.check(status=status)
        wait_until_sealed(self.workspace, self.id)
        assert lies_about(self.workspace, home) == [], self.name
        assert self.starts <= 1, f"{self.name}: the script was started {self.starts} times"
        if status == "Completed":
            assert self.starts == 1 and self.over, f"{self.name}: Completed, but the script did not end well"
        return record


def lies_about(workspace: Workspace, home: Path) -> list[str]:
    """As ``left_over`` while server and agent run, once a new agent has removed what a killed one left."""
    blobs = os.path.join(workspace.dir, "blobs")
    workspace.agent_pid()  # it has looked by then: ``leftovers`` holds each lock for a moment, which it would believe
    _wait_in(os.path.join(blobs, "tmp"), lambda: not leftovers(blobs))
    return left_over(home)


def wait_until_sealed(workspace: Workspace, run_id: str) -> None:
    """Until an ended run's folder is cleared up, which follows the acknowledged end."""
    root = os.path.join(workspace.dir, "runs", run_id)
    _wait_in(root, lambda: not set(os.listdir(root)) - {"files"})


def wait_for_file(path: str) -> None:
    """Until ``path`` exists."""
    _wait_in(os.path.dirname(path), lambda: os.path.exists(path), flags.CREATE | flags.MOVED_TO)


def wait_until_dead(pid: int) -> None:
    """Until a process has ended, also when nobody reaps it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([fd], [], [], 60)[0], f"{pid} lives on"
    os.close(fd)


def _wait_in(folder: str, reached: Callable[[], bool], changes: int = flags.DELETE | flags.MOVED_FROM) -> None:
    """Until ``reached`` holds, woken by what happens in a folder."""
    with INotify() as watcher:
        watcher.add_watch(folder, changes)
        while not reached():
            assert watcher.read(timeout=60_000), f"{folder} stays as it is: {os.listdir(folder)}"


def wait_for_one_of_each(workspace: Workspace, home: Path) -> None:
    """Until the home's only processes are the server, one agent and its nursery."""
    living = {workspace.server_pid(), agent := workspace.agent_pid(), *workspace.children_of(agent)}
    others = [process for process in processes_of(home) if process.pid not in living]
    _, left = psutil.wait_procs(others, timeout=30)
    lingering = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not lingering, f"left: {[(p.pid, p.ppid(), p.status(), p.cmdline()) for p in lingering]}; known: {living}"
