"""Processes of this user, by what they carry in their environment."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from windlass import settings
from windlassd.doctor.patient import Patient, Problem
from windlassd.store import audit

_END_MS = 10_000


@dataclass(frozen=True)
class Process:
    """A live process of this user."""

    pid: int
    carried: Sequence[bytes]
    """Its environment, as ``NAME=value``."""

    def get(self, name: str) -> str | None:
        """The value of a variable of it."""
        mark = os.fsencode(name) + b"="
        return next((os.fsdecode(entry[len(mark) :]) for entry in self.carried if entry.startswith(mark)), None)


def leftovers(patient: Patient) -> Iterator[Problem]:
    """Processes that carry the id of a run that has ended."""
    ours = set(_ancestors())
    found = [
        (process, process.get(settings.RUN_ID_VARIABLE))
        for process in running()
        if process.get(settings.WORKSPACE_DIR_VARIABLE) == patient.workspace_dir
    ]
    ended = patient.ask(audit.final_runs)
    for process, run_id in found:
        if run_id in ended and process.pid not in ours:
            detail = f"Process {process.pid} ({_name(process.pid)}) belongs to {run_id}, which has ended."

            def kill(process: Process = process) -> None:
                _kill(process)

            yield Problem("process_leftover", f"pid {process.pid}", detail, kill)


def running() -> Iterator[Process]:
    """Those whose environment can be read; ended ones have none."""
    for name in os.listdir("/proc"):
        try:
            if name.isdigit():
                yield Process(int(name), _carried(int(name)))
        except OSError:  # gone meanwhile, or another user's
            continue


def is_alive(pid: int) -> bool:
    """True while there is a process of that number."""
    return os.path.isdir(f"/proc/{pid}")


def _carried(pid: int) -> Sequence[bytes]:
    with open(f"/proc/{pid}/environ", "rb") as f:
        return f.read().split(b"\0")


def _stat(pid: int) -> list[bytes]:
    """State, parent and so on."""
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rpartition(b")")[2].split()


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return "?"


def _ancestors() -> Iterator[int]:
    """This process and those that wait for it."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = int(_stat(pid)[1])
        except OSError:
            return


def _kill(process: Process) -> None:
    """Kill it, if its number is still its own, and wait for its end."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if _carried(process.pid) != process.carried:
            return  # another process by now
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        if not ended.poll(_END_MS):
            raise TimeoutError(f"Process {process.pid} does not end.")
    finally:
        os.close(handle)
