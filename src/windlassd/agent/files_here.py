"""What becomes of the files of parts: on the server's own machine they are where they are to be already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from windlass.specs.launch import PartKey
from windlassd.agent.ship import Shipper
from windlassd.agent.tail import Grew
from windlassd.blobs.run_folder import RunFolder

_HASHED_AT_ONCE = 32 << 20


@dataclass(frozen=True)
class Brought:
    """What came of the files of a part that has ended."""

    files: Sequence[Mapping[str, Any]]
    """``path``, ``size`` and ``sha256`` (None where it is not known yet) of all that the server has."""
    notes: Sequence[str] = ()
    """Sentences on what it does not have."""
    waited_s: float = 0.0
    """Seconds of this in which no server could be had."""


class Files(Protocol):
    """Brings the files of an agent's parts to the server. Thread-safe."""

    def open(self, key: PartKey, folder: RunFolder) -> None:
        """Begin, for a part; what a killed agent had brought is known."""
        ...

    def grew(self, key: PartKey, kind: Grew) -> None:
        """A part's logs or files changed (from the tail)."""
        ...

    def ended(self, key: PartKey) -> None:
        """The processes of a part have ended. Call this before its folder is put in order, and what is kept moved."""
        ...

    def bring_home(self, key: PartKey) -> Brought:
        """Return when the server has all that the folder of an ended part keeps."""
        ...

    def make_durable(self, key: PartKey) -> bool:
        """True when the folder may go; False when the server cannot be had to say so."""
        ...

    def close(self, key: PartKey) -> None:
        """Forget a part whose end is acknowledged."""
        ...


class FilesHere:
    """The server finds them itself; it is told that they changed.

    Args:
        shipper: Tells it.
    """

    def __init__(self, shipper: Shipper) -> None:
        self._shipper = shipper
        self._folders: dict[PartKey, RunFolder] = {}

    def open(self, key: PartKey, folder: RunFolder) -> None:
        """See ``Files``."""
        self._folders[key] = folder

    def grew(self, key: PartKey, kind: Grew) -> None:
        """See ``Files``."""
        self._shipper.grew(key, kind)

    def ended(self, key: PartKey) -> None:
        """Tell the last size of its logs."""
        self._shipper.logs_grew(key, self._folders[key])

    def bring_home(self, key: PartKey) -> Brought:
        """The kept files; with checksums when that takes no time (the server computes the others later)."""
        folder = self._folders[key]
        files = folder.list()
        if sum(f["size"] for f in files) > _HASHED_AT_ONCE:
            return Brought([dict(f) for f in files])
        known = folder.checksums(f["path"] for f in files)
        return Brought([{**f, "sha256": known.get(f["path"])} for f in files])

    def make_durable(self, key: PartKey) -> bool:
        """The server syncs what it has once it knows the end."""
        return True

    def close(self, key: PartKey) -> None:
        """See ``Files``."""
        self._folders.pop(key, None)
