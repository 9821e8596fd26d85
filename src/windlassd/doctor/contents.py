"""Blobs: contents by their hash, against the snapshots and models that need them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from windlassd.blobs.files import FileBlobStore, leftovers
from windlassd.blobs.run_folder import sha256_of
from windlassd.doctor.patient import Patient, Problem, age_s, entries
from windlassd.store import audit

_KEPT_UNUSED_S = 86_400.0
"""A client may have sent a content and not yet said what it is for."""
_FOLDER, _NAME = re.compile("[0-9a-f]{2}"), re.compile("[0-9a-f]{62}")
_SHOWN = 3


def damaged(patient: Patient) -> Iterator[Problem]:
    """Blobs that are not what their name says: those of another size than known are read, with ``deep`` all."""
    sizes = {file["sha256"]: file.get("size") for _, _, files in _contents(patient) for file in files}
    for sha256, path in _blobs(patient):
        where = patient.shown(path)
        try:
            size = os.path.getsize(path)
            suspect = patient.deep or sizes.get(sha256, size) != size  # or it is the list that is wrong
            wrong = suspect and sha256_of(path) != sha256
        except FileNotFoundError:  # freed this moment
            continue
        except OSError as problem:
            yield Problem("blob_damaged", where, f"{where} cannot be read: {problem.strerror}.")
            continue
        if wrong:
            detail = f"{where} does not have the content that its name says."
            yield Problem("blob_damaged", where, detail, partial(_replace, patient, sha256, path))


def incomplete(patient: Patient) -> Iterator[Problem]:
    """Snapshots and models of which a content is missing."""
    held = {sha256 for sha256, _ in _blobs(patient)}
    for kind, name, files in _contents(patient):
        missing = [file for file in files if file["sha256"] not in held]
        if missing:
            shown = ", ".join(str(file.get("path")) for file in missing[:_SHOWN])
            known = _sources(patient, {file["sha256"] for file in missing})
            mend = partial(_bring_back, patient, known) if known else None
            detail = f"Of the {len(files)} files of the {kind} {name} {len(missing)} are missing: {shown}."
            yield Problem(f"{kind}_incomplete", name, detail, mend)


def unused(patient: Patient) -> Iterator[Problem]:
    """Blobs that nothing needs, some time after they were stored."""
    assert patient.store is not None
    old = {sha256: path for sha256, path in _blobs(patient) if age_s(path) > _KEPT_UNUSED_S}
    used = patient.store.read(lambda tx: tx.used_blobs(old)) | patient.ask(audit.freed_soon)
    for sha256 in sorted(old.keys() - used):
        where = patient.shown(old[sha256])
        mend = partial(patient.live.free, {sha256}) if patient.live else partial(_remove, old[sha256])
        may = patient.live is not None or patient.alone
        yield Problem("blob_unused", where, f"{where} is in no snapshot and no model.", mend if may else None)


def unfinished(patient: Patient) -> Iterator[Problem]:
    """Files of writers that were killed."""
    for path in leftovers(patient.path("blobs")):
        detail = f"{patient.shown(path)} was left by a process that is gone."
        yield Problem("blob_leftover", patient.shown(path), detail, partial(_sweep, patient))


def blob_path(patient: Patient, sha256: str) -> str | None:
    """The file that holds a content, or None."""
    path = patient.path("blobs", sha256[:2], sha256[2:])
    return path if os.path.isfile(path) else None


def _blobs(patient: Patient) -> Iterator[tuple[str, str]]:
    for folder in entries(patient.path("blobs")):
        if _FOLDER.fullmatch(folder.name):
            for entry in entries(folder.path):
                if _NAME.fullmatch(entry.name):
                    yield folder.name + entry.name, entry.path


def _contents(patient: Patient) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    return [(kind, name, list(files)) for kind, name, files in patient.ask(lambda db: list(audit.contents(db)))]


def _sources(patient: Patient, hashes: set[str]) -> Mapping[str, str]:
    """Kept files of runs that have one of these contents, as far as their sizes go."""
    found = {}
    for sha256, places in patient.ask(lambda db: audit.places_of(db, hashes)).items():
        for run_id, name in places:
            path = patient.folder(run_id).find(name)
            if path is not None:
                found[sha256] = path
                break
    return found


def _bring_back(patient: Patient, sources: Mapping[str, str]) -> None:
    store = FileBlobStore(patient.path("blobs"))
    try:
        for sha256, path in sources.items():
            if sha256_of(path) == sha256:
                store.put_file(path)
    finally:
        store.close()


def _replace(patient: Patient, sha256: str, path: str) -> None:
    patient.lost.take(path, "blob_damaged")
    _bring_back(patient, _sources(patient, {sha256}))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _sweep(patient: Patient) -> None:
    FileBlobStore(patient.path("blobs")).close()
