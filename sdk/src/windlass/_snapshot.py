"""Take a source folder by content: list it, hash it, and send the server only the contents it does not have."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import tempfile
import warnings
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from windlass import settings
from windlass._ignore import (
    Rule,
    always_left_out,
    docker_rules,
    ignore_file_name,
    ignored_by,
    is_environment,
    left_out_of_context,
    read_rules,
)
from windlass._transport.client import Client
from windlass.errors import SnapshotException, SnapshotTooLarge

_BATCH_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_BLOB_HEADER = struct.Struct("<Q32s")
_SHOWN_PATHS = 5


class SourceFile(NamedTuple):
    """One file to take. ``path`` is relative to the source folder, with forward slashes."""

    path: str
    place: str
    """Where its content lies now."""
    size: int
    mode: int


class Listing(NamedTuple):
    """What a source folder holds and what was left out: path → the reason, in words."""

    files: "List[SourceFile]"
    left_out: "Dict[str, str]"


def list_files(root: str, dockerfile: "Optional[str]" = None) -> Listing:
    """The files of ``root`` that a snapshot takes, by path. Links that lead outside are left out with a warning.

    Args:
        root: The source folder.
        dockerfile: Path in it of the Dockerfile that is built there, so that a ``.dockerignore`` counts, if it has one.

    Raises:
        SnapshotException: a file cannot be read or its name is not UTF-8.
        SnapshotTooLarge: they are more than the setting ``snapshot_max_mb`` allows.
    """
    walk = _Walk(root, docker_rules(root, dockerfile) if dockerfile else None)
    walk.folder("", (), frozenset([os.path.realpath(root)]))
    files = sorted(walk.files)
    total, limit = sum(f.size for f in files), settings.get("snapshot_max_mb")
    if total > limit:
        raise SnapshotTooLarge(_too_large(root, files, total, limit))
    return Listing(files, walk.left_out)


def take(client: Client, files: "Sequence[SourceFile]", *, keep: bool = False) -> str:
    """The id of a snapshot of ``files``; contents the server lacks are sent.

    A run that names it makes the server write it down. With ``keep`` it does that now, for what names it later.
    """
    by_hash: "Dict[str, SourceFile]" = {}
    entries: "List[Dict[str, Any]]" = []
    for file in files:
        digest = _hash(file)
        by_hash[digest] = file
        entries.append({"path": file.path, "sha256": digest, "size": file.size, "mode": file.mode})
    answer = client.post("/v1/snapshots", {"files": entries})
    missing = [(digest, by_hash[digest]) for digest in dict.fromkeys(answer["missing"])]
    for batch in _batches(missing):
        _send(client, batch)
    if keep and missing:
        client.post("/v1/snapshots", {"files": entries})  # now that nothing is missing
    return str(answer["id"])


class _Walk:
    def __init__(self, root: str, docker: "Optional[Sequence[Rule]]" = None) -> None:
        self._root = root
        self._docker = docker
        self._brings_back = any(rule.negated for rule in docker or ())
        self._real_root = os.path.realpath(root)
        self._ignore_name = ignore_file_name(root)
        self.files: "List[SourceFile]" = []
        self.left_out: "Dict[str, str]" = {}

    def folder(self, base: str, rules: "Tuple[Rule, ...]", above: "frozenset[str]") -> None:
        """Take the folder at ``base`` (empty, or with a slash at its end); ``above`` are the real folders it is in."""
        place = os.path.join(self._root, base)
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as e:
            raise SnapshotException("The folder %s cannot be read: %s." % (place, e.strerror)) from e
        names = [entry.name for entry in found]
        if base and is_environment(names):
            self.left_out[base] = "a virtual environment"
            return
        ignore = os.path.join(place, self._ignore_name)
        if self._docker is None and self._ignore_name in names and os.path.isfile(ignore):
            rules = rules + tuple(read_rules(ignore, base))
        for entry in found:
            self._entry(entry, base + entry.name, rules, above)

    def _entry(self, entry: "os.DirEntry[str]", path: str, rules: "Tuple[Rule, ...]", above: "frozenset[str]") -> None:
        is_folder = entry.is_dir()
        reason = always_left_out(entry.name, is_folder)
        rule = None if reason else self._ignored(rules, path, is_folder)
        if rule and self._docker is not None and is_folder and self._brings_back:
            rule = None  # something in it may be wanted all the same; what is not is left out there
        if reason or rule:
            self.left_out[path + "/" * is_folder] = reason or "the line %r of %s" % (rule.line, rule.source)  # type: ignore[union-attr]
            return
        if entry.is_symlink() and not self._link_may_stay(entry, path, is_folder, above):
            return
        if is_folder:
            self.folder(path + "/", rules, above | {os.path.realpath(entry.path)})
        else:
            self._file(entry, path)

    def _ignored(self, rules: "Sequence[Rule]", path: str, is_folder: bool) -> "Optional[Rule]":
        return ignored_by(rules, path, is_folder) if self._docker is None else left_out_of_context(self._docker, path)

    def _link_may_stay(self, entry: "os.DirEntry[str]", path: str, is_folder: bool, above: "frozenset[str]") -> bool:
        target = os.path.realpath(entry.path)
        if not target.startswith(self._real_root + os.sep):
            reason = "a link that leads out of the source folder"
        elif not os.path.exists(target):
            reason = "a link to nothing"
        elif is_folder and target in above:
            reason = "a link to a folder that holds it"
        elif _hidden(os.path.relpath(target, self._real_root)):
            reason = "a link to what is always left out"
        else:
            return True
        self.left_out[path] = reason
        warnings.warn("%s is left out of the snapshot: %s (%s)." % (path, reason, target), stacklevel=2)
        return False

    def _file(self, entry: "os.DirEntry[str]", path: str) -> None:
        try:
            state = entry.stat()
        except OSError as e:
            raise SnapshotException("%s cannot be read: %s." % (entry.path, e.strerror)) from e
        if not stat.S_ISREG(state.st_mode):
            self.left_out[path] = "neither a file nor a folder"
            warnings.warn("%s is left out of the snapshot: it is neither a file nor a folder." % path, stacklevel=2)
            return
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            raise SnapshotException(
                "The file name %r in %s is not UTF-8. Rename it, or leave it out with a line in .amlignore."
                % (path, self._root)
            ) from None
        mode = 0o755 if state.st_mode & 0o100 else 0o644
        self.files.append(SourceFile(path, entry.path, state.st_size, mode))


def _hidden(path: str) -> bool:
    return any(always_left_out(part, True) for part in path.split(os.sep))


def _too_large(root: str, files: "Sequence[SourceFile]", total: int, limit: int) -> str:
    sizes: "Dict[str, int]" = {}
    for file in files:
        top, slash, _ = file.path.partition("/")
        sizes[top + slash] = sizes.get(top + slash, 0) + file.size
        if slash:
            sizes[file.path] = file.size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_SHOWN_PATHS]
    return (
        "The source folder %s holds %s in %d files; a snapshot may have %s. The largest: %s. Leave out what the script "
        "does not need with a line in .amlignore, or raise snapshot_max_mb (WINDLASS_SNAPSHOT_MAX_MB)."
        % (root, _mb(total), len(files), _mb(limit), ", ".join("%s (%s)" % (path, _mb(size)) for path, size in largest))
    )


def _mb(size: int) -> str:
    return "%.1f MB" % (size / 1048576.0)


def _hash(file: SourceFile) -> str:
    digest, seen = hashlib.sha256(), 0
    for chunk in _chunks(file):
        digest.update(chunk)
        seen += len(chunk)
    if seen != file.size:
        raise _changed(file)
    return digest.hexdigest()


def _chunks(file: SourceFile) -> "Iterator[bytes]":
    try:
        with open(file.place, "rb", buffering=0) as f:
            while True:
                chunk = f.read(_CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk
    except OSError as e:
        raise SnapshotException("%s cannot be read: %s." % (file.place, e.strerror)) from e


def _changed(file: SourceFile) -> SnapshotException:
    return SnapshotException("%s changed while the snapshot was taken. Submit again." % file.place)


def _batches(missing: "Sequence[Tuple[str, SourceFile]]") -> "Iterator[List[Tuple[str, SourceFile]]]":
    batch: "List[Tuple[str, SourceFile]]" = []
    size = 0
    for digest, file in missing:
        if batch and size + file.size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((digest, file))
        size += file.size
    if batch:
        yield batch


def _send(client: Client, batch: "Sequence[Tuple[str, SourceFile]]") -> None:
    large = batch[0][1].size > _BATCH_BYTES  # then it is alone in its batch, and goes through a file
    body: "Optional[BinaryIO]" = None
    if large:
        with tempfile.TemporaryFile() as body:
            _write_blob(body, *batch[0])
            body.seek(0)
            client.call("POST", "/v1/blobs", body=body, content_type="application/octet-stream")
        return
    parts: "List[bytes]" = []
    for digest, file in batch:
        content = b"".join(_chunks(file))
        if hashlib.sha256(content).hexdigest() != digest:
            raise _changed(file)
        parts += (_BLOB_HEADER.pack(len(content), bytes.fromhex(digest)), content)
    client.call("POST", "/v1/blobs", body=b"".join(parts), content_type="application/octet-stream")


def _write_blob(body: BinaryIO, digest: str, file: SourceFile) -> None:
    body.write(_BLOB_HEADER.pack(file.size, bytes.fromhex(digest)))
    try:
        with open(file.place, "rb") as f:
            shutil.copyfileobj(f, body, _CHUNK_BYTES)
    except OSError as e:
        raise SnapshotException("%s cannot be read: %s." % (file.place, e.strerror)) from e
    if body.tell() != _BLOB_HEADER.size + file.size:
        raise _changed(file)
