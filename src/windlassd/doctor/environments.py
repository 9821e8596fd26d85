"""Environments of the home, and the copies of the SDK that jobs import."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

from windlass.errors import UserErrorException
from windlassd.blobs import sdk_copy
from windlassd.doctor.patient import Patient, Problem, age_s, entries
from windlassd.doctor.processes import is_alive, running
from windlassd.envs._flock import held_if_free, is_held
from windlassd.envs._layout import Layout, stamp

_START_S = 60.0
_LEFT_S = 3600.0


def broken(patient: Patient) -> Iterator[Problem]:
    """Built environments that cannot be used; with ``deep`` each interpreter is started."""
    layout = _layout(patient)
    for key in layout.built_keys() if layout else ():
        assert layout is not None
        if is_held(layout.lock_file(key)):
            continue  # just being built or removed
        prefix = layout.prefix(key)
        state = layout.whole(key)
        if state is None:
            wrong = "was not finished, or was moved"
        elif not state.image and stamp(os.path.join(prefix, state.python)) is None:
            wrong = "has no interpreter any more"
        elif patient.deep and not state.image and not _starts(os.path.join(prefix, state.python)):
            wrong = "has an interpreter that does not start"
        else:
            continue
        if os.path.isdir(prefix):
            detail = f"The environment {key} {wrong}."
            yield Problem("environment_broken", patient.shown(prefix), detail, partial(_discard, layout, key))


def unfinished(patient: Patient) -> Iterator[Problem]:
    """Builds that were killed."""
    layout = _layout(patient)
    for key, path in sorted(layout.leftovers()) if layout else ():
        assert layout is not None
        if not is_held(layout.lock_file(key)) and os.path.lexists(path):
            detail = f"{patient.shown(path)} was left by a process that is gone."
            yield Problem("environment_leftover", patient.shown(path), detail, partial(_clear, layout, key))


def notes(patient: Patient) -> Iterator[Problem]:
    """The small files that lead from a request to what was built."""
    layout = _layout(patient)
    if layout is None:
        return
    for folder, read in (("requests", layout.request), ("resolved", layout.lock)):
        for entry in entries(os.path.join(layout.root, folder)):
            key, suffix = os.path.splitext(entry.name)
            if suffix == ".json" and read(key) is None and os.path.exists(entry.path):
                where = patient.shown(entry.path)
                mend = partial(_forget, layout, key, entry.path)
                yield Problem("environment_note", where, f"{where} cannot be read, or is of another version.", mend)


def sdk_copies(patient: Patient) -> Iterator[Problem]:
    """The copies of ``windlass`` and ``azureml``, by the hash that names them."""
    for entry in entries(os.path.join(patient.home, "sdk")):
        where = patient.shown(entry.path)
        if sdk_copy.is_name(entry.name):
            if not sdk_copy.is_intact(entry.path) and os.path.isdir(entry.path):
                detail = f"The files in {where} are not those that it was made of."
                yield Problem("sdk_copy_damaged", where, detail, partial(_remake, entry.path))
        elif not _lives(entry.name) or age_s(entry.path) > _LEFT_S:
            mend = partial(shutil.rmtree, entry.path)
            yield Problem("sdk_leftover", where, f"{where} was left by a process that is gone.", mend)


def _layout(patient: Patient) -> Layout | None:
    root = os.path.join(patient.home, "environments")
    return Layout(root) if os.path.isdir(os.path.join(root, "built")) else None


def _starts(python: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-I", "-c", "pass"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_START_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _discard(layout: Layout, key: str) -> None:
    with held_if_free(layout.lock_file(key)) as mine:
        if mine:
            layout.discard(key)


def _clear(layout: Layout, key: str) -> None:
    with held_if_free(layout.lock_file(key)) as mine:
        if mine:
            layout.clear_leftovers(key)


def _forget(layout: Layout, key: str, path: str) -> None:
    with held_if_free(layout.lock_file(key)) as mine:
        if mine and os.path.exists(path):
            os.unlink(path)


def _lives(name: str) -> bool:
    """True when the process that makes the copy ``<hash>.<pid>`` may still be there."""
    return any(part.isdigit() and is_alive(int(part)) for part in name.split(".")[1:])


def _remake(path: str) -> None:
    """Put a whole copy in the place; of another version's, which cannot be made here, only take the damaged away."""
    root, name = os.path.split(path)
    if name == sdk_copy.name_of(sdk_copy.installed()):
        sdk_copy.sdk_copy(root)
    elif any(path in (process.get("PYTHONPATH") or "").split(os.pathsep) for process in running()):
        raise UserErrorException(f"A running job imports {path}. Repair again when it has ended.")
    else:
        shutil.rmtree(path)
