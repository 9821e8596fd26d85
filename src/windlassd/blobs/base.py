"""The contract of a blob store: immutable objects, each known by the SHA-256 of its content.

Promises every implementation keeps:

- *Threads and processes.* All methods may be called from any thread, and by several stores on one place at a time.
- *Durability.* When ``put``, ``put_file``, ``put_many`` or ``put_handed`` returns, the objects survive power loss.
- *Atomicity.* An object is there whole or not at all; a writer that dies leaves nothing that readers see.
- *Truth.* What goes in is checked against its hash. What comes out was right when it went in; who must be sure that the
  disk kept it (``snapshots.materialize`` does) checks again.

A hash is 64 lower-case hexadecimal digits; anything else raises SnapshotException before a path is made of it.
"""

# ruff: noqa: D102 - the short methods say it in a comment beside them

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, Protocol

from windlass.errors import AzureMLException, SnapshotException
from windlassd.blobs.handed import Copied, Handed


class BlobMismatch(SnapshotException):
    """The content does not have the hash it came with: damaged on its way, or changed while it was read."""


class BlobMissing(SnapshotException):
    """No object of that hash."""


class BlobStoreError(AzureMLException):
    """The blob store failed; ``transient`` when trying again may help."""

    error_code = "service_unavailable"


class BlobStoreFull(BlobStoreError):
    """The disk that holds the objects is full."""

    transient = True


class BlobStore(Protocol):
    """Objects by content; see the module for what it promises."""

    def put(self, chunks: Iterable[bytes], sha256: str) -> int:
        """Store the content that ``chunks`` make together; returns its size in bytes.

        All chunks are read and checked even when the object is already there.

        Raises:
            BlobMismatch: The content has another hash; nothing is stored.
        """
        ...

    def put_many(self, objects: Iterable[tuple[str, Iterable[bytes]]]) -> int:
        """Store ``(sha256, chunks)`` one after the other, durable at the end; returns how many.

        Much quicker than as many ``put``. Objects before one that raises are stored.
        """
        ...

    def put_file(self, path: str) -> tuple[str, int]:
        """Store a copy of the file; returns its hash and size, those of the bytes that were stored."""
        ...

    def put_handed(self, files: Iterable[Handed]) -> Mapping[int, Copied]:
        """Store copies of files of a client of this machine; returns what came of each, by its place in line.

        Those that cannot be had here are left out.

        Raises:
            UserErrorException: A file changed while it was copied.
        """
        ...

    def missing(self, hashes: Iterable[str]) -> Sequence[str]: ...  # those not there, each once, in their order
    def open(self, sha256: str) -> BinaryIO: ...  # the caller closes it; raises BlobMissing
    def path(self, sha256: str) -> str | None: ...  # a plain read-only file with the content; None when there is none
    def delete(self, sha256: str) -> None: ...  # nothing happens when it is absent
    def hashes(self) -> Iterator[str]: ...  # of all objects, in no order
    def close(self) -> None: ...
