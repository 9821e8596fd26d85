"""Spool files as they lie in a run's folder, for whoever brings them into the history."""

from __future__ import annotations

import os
from typing import List, Tuple

from windlass.specs import spool

BATCH_BYTES = 1 << 20


def spool_files(folder: str) -> "List[Tuple[str, str]]":
    """(name, path) of each spool file in ``folder``, by name; none when there is no such folder."""
    return [(name, os.path.join(folder, name)) for name in _names(folder, spool.SUFFIX)]


def frames_at(path: str, start: int) -> "Tuple[bytes, int]":
    """About a batch of a spool file from ``start``, and how many of its bytes are whole frames."""
    with open(path, "rb") as f:
        f.seek(start)
        data = f.read(BATCH_BYTES)
        whole = spool.whole_frames(data)
        if not whole and len(data) == BATCH_BYTES:  # one frame larger than a batch
            data += f.read(spool.MAX_BODY_BYTES)
            whole = spool.whole_frames(data)
    return data, whole


def lost_points(folder: str) -> int:
    """Points that processes could not write, as they counted them beside their spools."""
    total = 0
    for name in _names(folder, spool.LOST_SUFFIX):
        with open(os.path.join(folder, name), "rb") as f:
            total += int.from_bytes(f.read(spool.LOST_BYTES), "little")
    return total


def _names(folder: str, suffix: str) -> "List[str]":
    try:
        with os.scandir(folder) as entries:  # the script may put anything there
            return sorted(e.name for e in entries if e.name.endswith(suffix) and e.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []
