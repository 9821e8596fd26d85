"""Examine a workspace without its server: one that does not run, or cannot, or does not answer."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from typing import IO

from windlass._transport.client import Client
from windlass.errors import AzureMLException, UserErrorException
from windlass.specs.findings import Finding
from windlassd.doctor.examine import Examination, Tell
from windlassd.doctor.patient import Patient, agent_lives, server_lock

_WAIT_S, _ANSWER_S, _PAUSE_S = 15.0, 5.0, 0.1


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
    with lock:
        patient.silent = not _held(lock, workspace_dir)
        patient.alone = not patient.silent and not agent_lives(workspace_dir)
        return Examination(patient, repair=repair and not patient.silent, tell=tell).run()


def _opened(path: str) -> IO[str] | None:
    try:
        return open(path, "a")
    except OSError:
        return None


def _held(lock: IO[str], workspace_dir: str) -> bool:
    """True once this process holds the server's lock; False when somebody else keeps it and does not answer."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if _answers(workspace_dir):
                raise UserErrorException(f"The server of {workspace_dir} runs: `windlass doctor` asks it.") from None
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_S)


def _answers(workspace_dir: str) -> bool:
    client = Client(workspace_dir, start=False)
    try:
        with client.open("GET", "/v1/server", timeout_s=_ANSWER_S, own_connection=True) as answer:
            answer.read()
    except (AzureMLException, OSError):
        return False
    return True
