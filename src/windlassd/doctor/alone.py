"""Examine a workspace without its server: one that does not run, or cannot, or does not answer."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from typing import IO

from windlass._transport.client import answers
from windlass.errors import UserErrorException
from windlass.specs.findings import Finding
from windlassd.doctor.examine import Examination, Tell
from windlassd.doctor.patient import Patient, agent_lives, server_lock

_WAIT_S, _ANSWER_S, _PAUSE_S = 15.0, 5.0, 0.1
PROGRAM = "windlassd.doctor"
"""The module that a doctor without a server runs as."""


def examine_alone(workspace_dir: str, *, repair: bool = False, deep: bool = False, tell: Tell) -> Sequence[Finding]:
    """All findings on a workspace whose server does not run; none can start meanwhile.

    Where a process holds the workspace and answers nobody, that is a finding, and nothing is repaired.

    Raises:
        UserErrorException: there is no such workspace, or its server runs.
    """
    workspace_dir = os.path.abspath(workspace_dir)
    if not os.path.isdir(workspace_dir):
        raise UserErrorException(f"There is no workspace in {workspace_dir}. `windlass init` makes one.")
    patient = Patient(workspace_dir, os.path.dirname(os.path.dirname(workspace_dir)), deep=deep)
    lock = _opened(server_lock(workspace_dir))
    if lock is None:  # then no server can run there, either
        patient.alone = True
        return Examination(patient, repair=repair, tell=tell).run()
    folder = os.open(workspace_dir, os.O_RDONLY | os.O_DIRECTORY)  # a server holds this, too: its file may be deleted
    try:
        with lock:
            patient.silent = not all(_held(held, workspace_dir) for held in (lock.fileno(), folder))
            patient.alone = not patient.silent and not agent_lives(workspace_dir)
            return Examination(patient, repair=repair and not patient.silent, tell=tell).run()
    finally:
        os.close(folder)


def examined_by(workspace_dir: str) -> int | None:
    """The process of the doctor that holds a workspace's lock; None when somebody else or nobody does.

    As the kernel tells: a doctor must change nothing, and so leaves no note.
    """
    try:
        inode = str(os.stat(server_lock(workspace_dir)).st_ino)
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            held = [words for words in map(str.split, file) if words[1] == "FLOCK" and words[5].endswith(":" + inode)]
    except (OSError, IndexError):
        return None
    return next((int(words[4]) for words in held if _is_doctor(words[4])), None)


def _opened(path: str) -> IO[str] | None:
    try:
        return open(path, "a")
    except OSError:
        return None


def _held(lock: int, workspace_dir: str) -> bool:
    """True once this process holds a lock of the server; False when somebody else keeps it and does not answer."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if answers(workspace_dir, _ANSWER_S):
                raise UserErrorException(f"The server of {workspace_dir} runs: `windlass doctor` asks it.") from None
            if time.monotonic() > deadline:
                if doctor := examined_by(workspace_dir):
                    raise UserErrorException(
                        f"Another doctor (pid {doctor}) examines {workspace_dir}. Try again when it has ended."
                    ) from None
                return False
            time.sleep(_PAUSE_S)


def _is_doctor(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return PROGRAM.encode() in file.read().split(b"\0")
    except OSError:  # gone just now
        return False
