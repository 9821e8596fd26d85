"""Spool files as they lie in a run's folder, for whoever brings them into the history."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

from windlass.specs import spool

BATCH_BYTES = 1 << 20
_END_FILE = "end.json"


def spool_files(folder: str) -> "List[Tuple[str, str]]":
    """(name, path) of each spool file in ``folder``, by name; none when there is no such folder."""
    return [(name, os.path.join(folder, name)) for name in _names(folder, spool.SUFFIX)]


def frames_at(path: str, start: int, last: bool = False) -> "Tuple[bytes, int]":
    """About a batch of a spool file from ``start``, and how many of its bytes are whole frames (or damage).

    With ``last`` nobody writes to the file any more: what is no whole frame at its end is damage.
    """
    with open(path, "rb") as f:
        f.seek(start)
        data = f.read(BATCH_BYTES)
        ended = last and len(data) < BATCH_BYTES
        whole = spool.whole_frames(data, ended)
        if not whole and len(data) == BATCH_BYTES:  # one frame larger than a batch
            data += f.read(spool.MAX_BODY_BYTES)
            whole = spool.whole_frames(data, last)
    return data, whole


def lost_points(folder: str) -> int:
    """Points that processes could not write, as they counted them beside their spools."""
    total = 0
    for name in _names(folder, spool.LOST_SUFFIX):
        with open(os.path.join(folder, name), "rb") as f:
            total += min(int.from_bytes(f.read(spool.LOST_BYTES), "little"), spool.MOST_LOST)
    return total


def write_end(folder: str, end: "Mapping[str, Any]") -> None:
    """Leave word beside the spools how their run ended; whole or not at all."""
    path = os.path.join(folder, _END_FILE)
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(end, f)
        f.flush()
        os.fsync(f.fileno())
    os.replace(path + ".part", path)


def read_end(folder: str) -> "Optional[Dict[str, Any]]":
    """What ``write_end`` left: ``status``, ``reason``, ``time`` and ``files`` as (kept name, path); None without."""
    try:
        with open(os.path.join(folder, _END_FILE), encoding="utf-8") as f:
            end = json.load(f)
    except (OSError, ValueError):
        return None
    return end if isinstance(end, dict) else None


def _names(folder: str, suffix: str) -> "List[str]":
    try:
        with os.scandir(folder) as entries:  # the script may put anything there
            return sorted(e.name for e in entries if e.name.endswith(suffix) and e.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
