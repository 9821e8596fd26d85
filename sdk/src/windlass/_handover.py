"""Hand files over to a server of this machine by their paths: it copies them itself, many in one call."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from windlass import settings
from windlass._files import open_local
from windlass.errors import UserErrorException

if TYPE_CHECKING:
    from windlass._transport.client import Client

_TOGETHER = 1000
_TOGETHER_BYTES = 1 << 30
_ANSWERED_S = 120
_SLOW_DISK = 4 << 20  # bytes per second that the slowest of disks takes
Known = Dict[str, Any]
"""What the server knows of a file it copied: ``path``, ``size``, ``sha256``."""


class Given(NamedTuple):
    """A file that is to be kept under ``name``."""

    name: str
    place: Any
    """A path, as the user gave it."""
    state: "os.stat_result"


def hand_over(
    client: "Client", address: str, files: "Sequence[Tuple[str, Any]]"
) -> "Iterator[Tuple[Given, Optional[Known]]]":
    """Yield each (name, place) given, with what the server made of it.

    None is for those to be sent as octets: the server does not see them as we do, as from within a container, or will
    not have them, and then says why when they are sent.

    Raises:
        UserErrorException: a place cannot be read; of it and those handed over together with it none is kept.
    """
    for batch in _batches(files):
        yield from zip(batch, _copies(client, address, batch))


def _batches(files: "Sequence[Tuple[str, Any]]") -> "Iterator[List[Given]]":
    batch: "List[Given]" = []
    size = 0
    for name, place in files:
        file = Given(name, place, _state_of(place))
        if batch and (len(batch) >= _TOGETHER or size + file.state.st_size > _TOGETHER_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.state.st_size
    if batch:
        yield batch


def _copies(client: "Client", address: str, batch: "Sequence[Given]") -> "List[Optional[Known]]":
    if settings.elsewhere():
        return [None] * len(batch)
    asked = [_handed(file) for file in batch]
    body = json.dumps({"files": [file for file in asked if file is not None]}).encode()
    timeout_s = _ANSWERED_S + sum(file.state.st_size for file in batch) / _SLOW_DISK
    try:
        answers = client.call("POST", address, body=body, timeout_s=timeout_s)["files"]
    except UserErrorException:
        return [None] * len(batch)
    found = iter(answers)
    return [None if file is None else next(found) for file in asked]


def _handed(file: Given) -> "Optional[Dict[str, Any]]":
    place = os.path.abspath(os.path.expanduser(os.fspath(file.place)))
    try:
        place.encode("utf-8")
    except UnicodeEncodeError:
        return None
    if not stat.S_ISREG(file.state.st_mode):
        return None
    return {
        "path": file.name, "from": place, "device": file.state.st_dev, "inode": file.state.st_ino,
        "size": file.state.st_size, "modified_ns": file.state.st_mtime_ns,
    }  # fmt: skip


def _state_of(place: Any) -> "os.stat_result":
    with open_local(place) as f:
        return os.fstat(f.fileno())
