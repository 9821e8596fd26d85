"""The format of a backup: a folder that says itself what it is, and holds every file it has with size and checksum.

::

    <folder that the user names>/
      <workspace>-<time of its moment, UTC>/      one backup, whole when it has this name
        manifest.json      what it is; the checksum of ``files.jsonl``
        files.jsonl        an ``Entry`` a line: path below this folder, size, SHA-256, mode, times
        workspace/         the workspace's folder: windlass.db, blobs/, runs/, datastores/, clients/
        home/              of the home: settings.json, offline/, environments/ (what lists were resolved to)
      .<workspace>-<time>.<random>.part/           one that is being made, or was cut short

Files that did not change are hard links to those of the backup before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from windlass.specs._codec import known_fields, to_wire

FORMAT = 1
MANIFEST_FILE, INDEX_FILE = "manifest.json", "files.jsonl"
WORKSPACE, HOME = "workspace", "home"
PART = ".part"


@dataclass(frozen=True)
class Manifest:
    """What a backup is."""

    format: int
    version: str
    """Of the Windlass that made it."""
    workspace: str
    made: float
    """The moment it shows, Unix seconds."""
    files: int
    bytes: int
    """Sum of the sizes of its files."""
    new_bytes: int
    """Of those, what was not in the backup before."""
    runs: int
    unfinished: Sequence[str]
    """Runs that had not ended; in the backup they are Failed."""
    index_sha256: str
    incomplete: Sequence[str] = ()
    """Sentences on what the workspace itself had lost."""

    def to_text(self) -> str:
        """As the file holds it."""
        return json.dumps(to_wire(self), indent=1)

    @staticmethod
    def from_text(text: str, where: str) -> "Manifest":
        """Read the file's text.

        Raises:
            ValueError: it is none, or of a format of a newer version; the text is for the user.
        """
        try:
            values = json.loads(text)
            newer = int(values["format"]) > FORMAT
            if not newer:
                return Manifest(**known_fields(Manifest, values))
        except (ValueError, KeyError, TypeError) as e:
            raise ValueError("%s is not the manifest of a Windlass backup (%r)." % (where, e)) from e
        raise ValueError(
            "%s was made by Windlass %s, which is newer than this one. Upgrade: `pip install --upgrade windlass`."
            % (where, values.get("version", "of a later day"))
        )


@dataclass(frozen=True)
class Entry:
    """A file of a backup; or a link, when it has a ``link``; or an empty folder, when it has neither that nor a sum."""

    path: str
    size: int = 0
    sha256: Optional[str] = None
    mode: int = 0o600
    mtime_ns: int = 0
    identity: Optional[Tuple[int, int, int]] = None
    """Device, inode and change time of the file it was copied from; None when it may have changed since."""
    link: Optional[str] = None

    def to_line(self) -> bytes:
        """A line of the index; names that are no UTF-8 stay what they are."""
        values = {key: value for key, value in to_wire(self).items() if value is not None}
        return json.dumps(values, separators=(",", ":")).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "Entry":
        """Read a line.

        Raises:
            ValueError: it is none, or its path could lead out of the backup.
        """
        values: "Dict[str, Any]" = json.loads(line.decode())
        entry = Entry(**known_fields(Entry, _as_mapping(values)))
        parts = entry.path.split("/")
        if not all(parts) or "." in parts or ".." in parts or "\0" in entry.path:
            raise ValueError("the path %r leads out of the backup" % entry.path)
        return entry


def is_newer(version: str, than: str) -> bool:
    """True when ``version`` is a later release than the other."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> "Tuple[int, ...]":
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _as_mapping(values: Any) -> "Mapping[str, Any]":
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        raise ValueError("not an entry of a backup")
    return values
