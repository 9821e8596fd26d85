"""What lies in the home beside workspaces and environments, and temporary files of killed processes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial

from windlass._transport.places import server_dir
from windlassd.doctor.database import SALVAGED
from windlassd.doctor.patient import Patient, Problem, age_s, entries
from windlassd.doctor.processes import is_alive

_INTERPRETER = re.compile(r"interpreter\.json\.(\d+)\Z")
_STATE = re.compile(r"run\.json\.(\d+)\.part\Z")
_LEFT_S = 600.0


def offline_runs(patient: Patient) -> Iterator[Problem]:
    """Runs that were logged outside any workspace."""
    for entry in entries(os.path.join(patient.home, "offline")):
        path = os.path.join(entry.path, "run.json")
        if entry.is_dir() and age_s(entry.path) > _LEFT_S and not _is_object(path):
            detail = f"The state of the offline run {entry.name} is missing or cannot be read."
            yield Problem("offline_run_unreadable", patient.shown(path), detail)


def temporary_files(patient: Patient) -> Iterator[Problem]:
    """Files that were to be renamed and were not."""
    for path in _unrenamed(patient):
        where = patient.shown(path)
        yield Problem("temporary_file", where, f"{where} was left by a process that is gone.", partial(os.unlink, path))


def _unrenamed(patient: Patient) -> Iterator[str]:
    yield from _of_dead(patient.home, _INTERPRETER)
    for entry in entries(os.path.join(patient.home, "offline")):
        yield from _of_dead(entry.path, _STATE)
    for path in (os.path.join(server_dir(patient.workspace_dir), "server.json.tmp"), patient.database + SALVAGED):
        if os.path.exists(path) and (patient.alone or age_s(path) > _LEFT_S):
            yield path


def _of_dead(folder: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for entry in entries(folder):
        match = pattern.match(entry.name)
        if match and (not is_alive(int(match.group(1))) or age_s(entry.path) > _LEFT_S):
            yield entry.path


def _is_object(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as f:
            return isinstance(json.load(f), dict)
    except (OSError, ValueError):
        return False
