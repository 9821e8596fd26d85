"""Send file contents to the server: only those it lacks, small ones together, big ones in resumable pieces."""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Sequence, Tuple

from windlass._handover import hand_over
from windlass.errors import SnapshotException, UserErrorException

if TYPE_CHECKING:
    from windlass._transport.client import Client

_TOGETHER_BYTES = 16 << 20
_PIECE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_HEADER = struct.Struct("<Q32s")
_OCTETS = "application/octet-stream"


class LocalFile(NamedTuple):
    """A file to keep under ``path``."""

    path: str
    """Relative, with forward slashes."""
    place: str
    sha256: str
    size: int


def keep(client: "Client", files: "Sequence[Tuple[str, str]]") -> "List[LocalFile]":
    """The (name, place) given with their hashes, once the server has the content of each.

    Raises:
        UserErrorException: a file cannot be read, or changed meanwhile.
    """
    kept, unknown = [], []
    for file, known in hand_over(client, "/v1/blob-copies", files):
        if known is None:
            unknown.append(read_file(file.name, file.place))
            kept.append(unknown[-1])
        else:
            kept.append(LocalFile(file.name, file.place, known["sha256"], known["size"]))
    if unknown:
        send(client, unknown)
    return kept


def read_file(path: str, place: str) -> LocalFile:
    """The file at ``place`` with its hash.

    Raises:
        UserErrorException: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with open(place, "rb", buffering=0) as f:
            for chunk in iter(lambda: f.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
                size += len(chunk)
    except OSError as e:
        raise UserErrorException("%s cannot be read: %s." % (place, e.strerror or e)) from e
    return LocalFile(path, place, digest.hexdigest(), size)


def send(client: "Client", files: "Sequence[LocalFile]") -> None:
    """Return when the server has the content of every file.

    Raises:
        UserErrorException: a file changed since it was hashed.
    """
    by_hash = {file.sha256: file for file in files}
    missing = client.post("/v1/blobs/missing", {"hashes": sorted(by_hash)})["missing"]
    batch: "List[LocalFile]" = []
    for file in (by_hash[sha256] for sha256 in missing):
        if file.size > _PIECE_BYTES:
            _send_in_pieces(client, file)
            continue
        if batch and sum(known.size for known in batch) + file.size > _TOGETHER_BYTES:
            _send_together(client, batch)
            batch = []
        batch.append(file)
    if batch:
        _send_together(client, batch)


def manifest(files: "Sequence[LocalFile]") -> "List[Dict[str, Any]]":
    """The files as the wire has them."""
    return [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in files]


def _send_together(client: "Client", batch: "Sequence[LocalFile]") -> None:
    parts: "List[bytes]" = []
    for file in batch:
        content = _read(file, 0, file.size + 1)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise _changed(file)
        parts += (_HEADER.pack(len(content), bytes.fromhex(file.sha256)), content)
    client.call("POST", "/v1/blobs", body=b"".join(parts), content_type=_OCTETS)


def _send_in_pieces(client: "Client", file: LocalFile) -> None:
    """The answer to an empty piece says how much the server holds already, of this client or another."""
    held = int(_put(client, file, 0, b"")["offset"])
    try:
        _send_from(client, file, held)
    except SnapshotException:  # what was held was damaged, and the server has thrown it away
        if not held:
            raise
        _send_from(client, file, 0)


def _send_from(client: "Client", file: LocalFile, offset: int) -> None:
    while True:
        piece = _read(file, offset, min(_PIECE_BYTES, file.size - offset))
        if not piece and offset < file.size:
            raise _changed(file)
        answer = _put(client, file, offset, piece)
        if answer["stored"]:
            return
        offset = answer["offset"]


def _put(client: "Client", file: LocalFile, offset: int, piece: bytes) -> "Dict[str, Any]":
    query = {"offset": offset, "size": file.size}
    return dict(client.call("PUT", "/v1/blobs/" + file.sha256, query=query, body=piece, content_type=_OCTETS))


def _read(file: LocalFile, offset: int, size: int) -> bytes:
    try:
        with open(file.place, "rb") as f:
            f.seek(offset)
            return f.read(size)
    except OSError as e:
        raise UserErrorException("%s cannot be read: %s." % (file.place, e.strerror or e)) from e


def _changed(file: LocalFile) -> UserErrorException:
    return UserErrorException("%s changed while it was uploaded. Try again." % os.path.abspath(file.place))
