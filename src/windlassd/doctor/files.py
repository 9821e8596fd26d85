"""Kept files and folders of runs, against the records."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.run_folder import RunFolder, sha256_of
from windlassd.blobs.syncing import sync_file_system
from windlassd.doctor.contents import blob_path
from windlassd.doctor.patient import Patient, Problem, age_s, entries
from windlassd.store import audit
from windlassd.store.base import Writer

_SHOWN = 3
_UPLOAD_S = 7 * 86_400.0
_LEFT_ON_PURPOSE = ("data_not_kept", "files_not_kept")


def orphans(patient: Patient) -> Iterator[Problem]:
    """Folders of runs that have no record."""
    folders = [entry for entry in entries(patient.path("runs")) if entry.is_dir(follow_symlinks=False)]
    known = patient.ask(audit.run_ids)  # asked afterwards: a record, or the note of its deletion, outlives its folder
    for entry in folders:
        if entry.name not in known and os.path.isdir(entry.path):
            mend = partial(_take_folder, patient, entry.path)
            detail = f"{entry.name} has a folder and no record."
            yield Problem("run_folder_orphan", patient.shown(entry.path), detail, mend)


def uncleared(patient: Patient) -> Iterator[Problem]:
    """Working folders of runs that have ended."""
    for run_id, (_, ended, code, message) in patient.ask(audit.final_runs).items():
        folder = patient.folder(run_id)
        if code in _LEFT_ON_PURPOSE or folder.root in message or not patient.settled(ended):
            continue
        if left := folder.left():
            detail = f"{run_id} has ended, and its folder still has {', '.join(left)}."
            yield Problem("run_not_cleared", run_id, detail, partial(_clear, folder))


def kept(patient: Patient) -> Iterator[Problem]:
    """Every file that a record promises: there, of its size, and with ``deep`` of its content."""
    for run_id, files in patient.ask(lambda db: list(audit.kept_files(db))):
        folder = patient.folder(run_id)
        gone, changed = [], []
        for file in files:
            path = folder.find(file.path)
            if path is None:
                gone.append(file)
            elif os.path.getsize(path) != file.size or (patient.deep and file.sha256 and _differs(path, file.sha256)):
                changed.append(file)
        for code, found, verb in (("kept_file_missing", gone, "gone"), ("kept_file_changed", changed, "changed")):
            if found:
                mend = partial(_bring_back, patient, folder, code, found) if _can_come_back(patient, found) else None
                yield Problem(code, run_id, f"{_count(found)} of {run_id}: {verb}.", mend)


def unlisted(patient: Patient) -> Iterator[Problem]:
    """Files in the folders of ended runs that their records do not have; with ``deep`` only: it lists every folder."""
    if not patient.deep:
        return
    kept_files = patient.ask(lambda db: list(audit.kept_files(db)))
    listed = {run_id: {file.path for file in files} for run_id, files in kept_files}
    for run_id, (verified, *_) in patient.ask(audit.final_runs).items():
        if not verified:
            continue
        known = listed.get(run_id, set())
        extra = [file for file in patient.folder(run_id).list() if file["path"] not in known]
        if extra:
            names = ", ".join(str(file["path"]) for file in extra[:_SHOWN])
            mend = partial(_list_files, patient, run_id)
            detail = f"The record of {run_id} lacks {len(extra)} of its files: {names}."
            yield Problem("file_unlisted", run_id, detail, mend)


def unverified(patient: Patient) -> Iterator[Problem]:
    """Ended runs whose files have no checksums yet, though nobody is computing them."""
    for run_id, (verified, ended, *_) in patient.ask(audit.final_runs).items():
        if verified or not patient.settled(ended) or (patient.live and run_id in patient.live.verifying()):
            continue
        detail = f"Files of {run_id} have no checksum, or were not brought to the disk."
        yield Problem("checksum_missing", run_id, detail, partial(_list_files, patient, run_id))


def uploads(patient: Patient) -> Iterator[Problem]:
    """Contents that clients began to send and did not go on with."""
    for entry in entries(patient.path("uploads")):
        if age_s(entry.path) > _UPLOAD_S:
            detail = f"{patient.shown(entry.path)} was begun and has not grown for a week."
            yield Problem("upload_leftover", patient.shown(entry.path), detail, partial(os.unlink, entry.path))
    if not patient.deep:
        return
    for folder, _, names in os.walk(patient.path("runs")):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(PART) and (patient.alone or age_s(path) > _UPLOAD_S):
                detail = f"{patient.shown(path)} was not sent to its end."
                yield Problem("upload_leftover", patient.shown(path), detail, partial(os.unlink, path))


def _differs(path: str, sha256: str) -> bool:
    try:
        return sha256_of(path) != sha256
    except OSError:
        return True


def _count(files: Sequence[Any]) -> str:
    names = ", ".join(file.path for file in files[:_SHOWN])
    more = ", …" if len(files) > _SHOWN else ""
    return f"1 file ({names})" if len(files) == 1 else f"{len(files)} files ({names}{more})"


def _can_come_back(patient: Patient, files: Sequence[Any]) -> bool:
    return any(file.sha256 and blob_path(patient, file.sha256) for file in files)


def _bring_back(patient: Patient, folder: RunFolder, code: str, files: Sequence[Any]) -> None:
    """Copy from the blobs what a model or a snapshot holds of these files."""
    for file in files:
        source = blob_path(patient, file.sha256) if file.sha256 else None
        if source is None or _differs(source, file.sha256):
            continue
        damaged = folder.find(file.path)
        if damaged is not None:
            patient.lost.take(damaged, code)
        target = folder.log(file.path)
        shutil.copyfile(source, target + PART)
        os.chmod(target + PART, 0o400)
        os.replace(target + PART, target)


def _take_folder(patient: Patient, path: str) -> None:
    patient.lost.take(path, "run_folder_orphan")


def _clear(folder: RunFolder) -> None:
    if not os.path.islink(folder.work):  # else it is a client's own folder
        folder.keep_live()
    folder.seal()


def _list_files(patient: Patient, run_id: str) -> None:
    """Write down every kept file that the record lacks, and checksums where it has none."""
    assert patient.store is not None
    folder = patient.folder(run_id)
    known = {file["path"]: file for file in patient.store.read(lambda tx: tx.files_of(run_id))}
    found = []
    for file in folder.list():
        path = folder.find(file["path"])
        recorded = known.get(file["path"])
        if path is None or not stat.S_ISREG(os.stat(path).st_mode):
            continue
        if recorded is None or (recorded["sha256"] is None and recorded["size"] == file["size"]):
            found.append({**file, "sha256": sha256_of(path)})
    sync_file_system(folder.root)

    def write(tx: Writer) -> None:
        tx.keep_files(run_id, found)
        tx.update_run(run_id, verified=True)

    patient.store.write(write).result()
