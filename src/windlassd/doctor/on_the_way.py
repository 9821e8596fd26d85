"""What is on its way into the records: runs that have not ended, and points that still lie in spools."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from windlass._spools import frames_at, spool_files
from windlass.errors import UserErrorException
from windlass.specs.spool import LOST, Frame, sound_frames
from windlassd.doctor.patient import Patient, Problem, age_s, entries
from windlassd.doctor.processes import is_alive
from windlassd.store import audit
from windlassd.store.base import Writer

_LEFT_S = 86_400.0


def unfinished(patient: Patient) -> Iterator[Problem]:
    """Runs that have not ended, against who moves them."""
    assert patient.store is not None
    if patient.live is None:
        for run in patient.store.read(lambda tx: tx.active_runs()) if patient.alone else ():
            yield Problem("run_waits", run.id, f"{run.id} is {run.status}, and no server runs.")
        return
    active = patient.store.read(lambda tx: tx.active_runs())
    held = set(patient.live.held())
    for run in active:
        if run.id not in held:
            yield Problem("run_unheld", run.id, f"{run.id} is {run.status}, and nobody moves it.")


def spools(patient: Patient) -> Iterator[Problem]:
    """Spools of runs against what the records have of them."""
    ended = patient.ask(audit.final_runs)
    for entry in entries(patient.path("runs")):
        for name, path in _spools_of(patient, entry):
            acked, size = _acked(patient, entry.name, name), _size(path)
            if size is None:
                continue
            where = patient.shown(path)
            if entry.name not in ended:
                if acked > size:
                    detail = f"{where} has {size} bytes, and the record has {acked} of it."
                    yield Problem("spool_cut", where, detail)
            elif patient.settled(ended[entry.name][1]) and _unsent(path, acked):
                detail = f"{where} has points that the record of {entry.name} lacks."
                yield Problem("spool_unshipped", where, detail, partial(_ship, patient, entry.name, name, path))


def clients(patient: Patient) -> Iterator[Problem]:
    """Points that processes logged into runs that they are no part of, and did not send before they died."""
    known = patient.ask(audit.run_ids)
    for entry in entries(patient.path("clients")):
        for name, path in spool_files(entry.path):
            if _lives(name):
                continue
            where, unsent = patient.shown(path), _unsent(path, _acked(patient, entry.name, name))
            if entry.name not in known:
                detail = f"{where} has points of a run that has no record."
                yield Problem("client_points", where, detail, partial(_take, patient, path))
            elif unsent:
                detail = f"{where} has points that the record of {entry.name} lacks."
                yield Problem("client_points", where, detail, _sender(patient, entry.name, name, path))
            elif age_s(path) > _LEFT_S:
                yield Problem("temporary_file", where, f"{where} was sent and is not needed.", partial(os.unlink, path))


def _spools_of(patient: Patient, entry: os.DirEntry[str]) -> Iterator[tuple[str, str]]:
    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
        for spool in patient.folder(entry.name).spools():
            yield from spool_files(spool)


def _acked(patient: Patient, run_id: str, name: str) -> int:
    assert patient.store is not None
    return patient.store.read(lambda tx: tx.acked(run_id, name))


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:  # the run ended this moment
        return None


def _unsent(path: str, acked: int) -> bool:
    try:
        return frames_at(path, acked)[1] > 0
    except OSError:
        return False


def _lives(name: str) -> bool:
    """True when the process that writes the spool of this name (``<pid>-…``) may still be there."""
    pid = name.partition("-")[0]
    return pid.isdigit() and is_alive(int(pid))


def _take(patient: Patient, path: str) -> None:
    patient.lost.take(path, "client_points")


def _sender(patient: Patient, run_id: str, name: str, path: str) -> Callable[[], None]:
    def send() -> None:
        _ship(patient, run_id, name, path)
        os.unlink(path)

    return send


def _ship(patient: Patient, run_id: str, name: str, path: str) -> None:
    """Add to the record what it lacks of a spool; damaged frames count as lost points."""
    assert patient.store is not None
    while True:
        start = _acked(patient, run_id, name)
        data, whole = frames_at(path, start)
        if not whole:
            return
        frames, _ = sound_frames(data[:whole])
        work = partial(_append, run_id=run_id, name=name, start=start, end=start + whole, frames=frames)
        if patient.store.write(work).result() == start:
            return


def _append(tx: Writer, run_id: str, name: str, start: int, end: int, frames: list[Frame]) -> int:
    try:
        return tx.append(run_id, name, start, end, frames)
    except UserErrorException:  # the frame that names a series was a damaged one
        return tx.append(run_id, name, start, end, [Frame(LOST, 0, 0, None, len(frames))])
