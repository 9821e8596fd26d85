"""Snapshots of a source folder: a list of files, each a blob, and back to a folder.

A file is ``{"path", "sha256", "size", "mode"}``; of the mode only whether it may be executed counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from windlass.errors import SnapshotException
from windlassd.blobs.base import BlobMismatch, BlobStore

_HASH = re.compile("[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_manifest(files: Sequence[Mapping[str, Any]]) -> None:
    """Raise SnapshotException, naming the path, unless ``files`` can be laid out below one folder.

    Paths are relative, with forward slashes; none leads out, is there twice, or is both a file and a folder. Names
    that differ by case only are different files, as on the file systems that jobs run on.
    """
    paths: set[str] = set()
    for file in files:
        path = _checked_path(file.get("path"))
        _check_content(path, file)
        if path in paths:
            raise SnapshotException(f"The snapshot has {path!r} twice. Send each file once.")
        paths.add(path)
    folders = {path[:place] for path in paths for place, character in enumerate(path) if character == "/"}
    if both := paths & folders:
        raise SnapshotException(f"In the snapshot {min(both)!r} is a file and also a folder with files. Rename one.")


def snapshot_id(files: Sequence[Mapping[str, Any]]) -> str:
    """The id of a snapshot: a hash of its files, whatever their order."""
    entries = [
        {"executable": _executable(file), "path": file["path"], "sha256": file["sha256"], "size": file["size"]}
        for file in sorted(files, key=lambda file: str(file["path"]))
    ]
    return hashlib.sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def materialize(blobs: BlobStore, files: Sequence[Mapping[str, Any]], folder: str) -> None:
    """Lay ``files`` out below ``folder`` as copies that a script may change; a file already there is replaced.

    No link on the way is followed, whoever made it. Contents are checked against their hashes.

    Raises:
        SnapshotException: A path leads out or through a link. BlobMissing, BlobMismatch: a content is gone or damaged.
    """
    check_manifest(files)
    os.makedirs(folder, exist_ok=True)
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent, group in groupby(sorted(files, key=_parent_and_name), key=_parent):
            place = _enter(root, parent)
            try:
                for file in group:
                    _copy(blobs, file, place)
            finally:
                os.close(place)
    except OSError as problem:
        raise SnapshotException(f"Cannot lay out the snapshot in {folder}: {problem.strerror or problem}.") from problem
    finally:
        os.close(root)


def _checked_path(path: object) -> str:
    if not isinstance(path, str) or not path:
        raise SnapshotException(f"A file of the snapshot has the path {path!r}; it must be a text that is not empty.")
    if "\0" in path or "\\" in path:
        raise SnapshotException(f"The snapshot path {path!r} has a character that is not allowed (NUL or backslash).")
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise SnapshotException(
            f"The snapshot path {path!r} does not lie inside the source folder. Allowed are relative paths with forward"
            " slashes, without '.', '..' or empty parts."
        )
    return path


def _check_content(path: str, file: Mapping[str, Any]) -> None:
    if not isinstance(file.get("sha256"), str) or not _HASH.fullmatch(file["sha256"]):
        raise SnapshotException(f"The SHA-256 of {path!r} is {file.get('sha256')!r}; it must be 64 hexadecimal digits.")
    for name in ("size", "mode"):
        value = file.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise SnapshotException(f"The {name} of {path!r} is {value!r}; it must be a whole number, 0 or more.")


def _executable(file: Mapping[str, Any]) -> bool:
    return bool(file["mode"] & 0o111)


def _parent(file: Mapping[str, Any]) -> str:
    return str(file["path"]).rpartition("/")[0]


def _parent_and_name(file: Mapping[str, Any]) -> tuple[str, str]:
    return _parent(file), str(file["path"])


def _enter(root: int, parent: str) -> int:
    """The folder ``parent`` below ``root``, opened; made where it is missing, refused where a link is on the way."""
    place = os.dup(root)
    for part in parent.split("/") if parent else ():
        try:
            below = _open_or_make(place, part, parent)
        finally:
            os.close(place)
        place = below
    return place


def _open_or_make(place: int, part: str, parent: str) -> int:
    for _ in range(2):
        try:
            return os.open(part, _FOLDER_FLAGS, dir_fd=place)
        except FileNotFoundError:
            os.mkdir(part, dir_fd=place)
        except OSError as problem:
            raise SnapshotException(
                f"{parent!r} of the snapshot cannot be laid out: {part!r} is there and is a link or a file."
            ) from problem
    raise SnapshotException(
        f"{parent!r} of the snapshot cannot be laid out: {part!r} is removed as soon as it is made."
    )


def _copy(blobs: BlobStore, file: Mapping[str, Any], place: int) -> None:
    name = file["path"].rpartition("/")[2]
    mode = 0o777 if _executable(file) else 0o666  # less the umask, as if the user had made it
    with blobs.open(file["sha256"]) as source:
        try:
            target = os.open(name, _FILE_FLAGS, mode, dir_fd=place)
        except FileExistsError:
            _remove_file(name, place, file["path"])
            target = os.open(name, _FILE_FLAGS, mode, dir_fd=place)
        try:
            found = _copy_bytes(iter(lambda: source.read(_CHUNK_BYTES), b""), target)
        finally:
            os.close(target)
    if found != file["sha256"]:
        os.unlink(name, dir_fd=place)
        raise BlobMismatch(
            f"The stored content of {file['path']!r} is damaged: its SHA-256 is {found}, not {file['sha256']}. Remove"
            f" the blob {file['sha256']} from the workspace and submit again."
        )


def _remove_file(name: str, place: int, path: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
        raise SnapshotException(f"{path!r} of the snapshot is a file, but a folder of that name is already there.")
    os.unlink(name, dir_fd=place)


def _copy_bytes(chunks: Iterable[bytes], target: int) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
    return digest.hexdigest()
