"""What data a run asks for, and where its bytes lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from windlass.specs._codec import known_fields

REFERENCE, INPUT, OUTPUT = "reference", "input", "output"
"""Kinds: a v1 data reference, a dataset that is read, a dataset that is made."""
MOUNT, DOWNLOAD, UPLOAD, DIRECT = "mount", "download", "upload", "direct"
"""Modes: used in place; copied before; copied back afterwards; not touched (the script asks by id)."""
MODES = {
    REFERENCE: (MOUNT, DOWNLOAD, UPLOAD),
    INPUT: (MOUNT, DOWNLOAD, DIRECT),
    OUTPUT: (MOUNT, UPLOAD),
}
PLACEHOLDERS = {INPUT: "DatasetConsumptionConfig:", OUTPUT: "DatasetOutputConfig:"}
"""What stands in an argument, before the name, for the path (v1's)."""


@dataclass(frozen=True)
class DataPlace:
    """A file, a folder, or (with ``*``, ``?`` or ``[``) the files that a pattern matches."""

    path: str
    """Relative to the datastore, with forward slashes, empty for all of it; without a datastore absolute."""
    datastore: Optional[str] = None
    root: Optional[str] = None
    """Folder of the datastore on the node; the server fills it in."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "DataPlace":
        """The place that ``to_wire`` made ``data`` from; unknown keys are left out."""
        return cls(**known_fields(cls, data))


@dataclass(frozen=True)
class DataSpec:
    """One piece of data of a run."""

    name: str
    """Letters, digits and ``_``; unique among a run's data of one kind."""
    kind: str = REFERENCE
    mode: str = MOUNT
    places: Tuple[DataPlace, ...] = ()
    path_on_compute: Optional[str] = None
    """Where to, relative to the script's working folder."""
    overwrite: bool = False
    """Replace files of the same name at the target; otherwise one is an error."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """Of an input: ``id``, ``name``, ``version``, ``type``, ``definition``."""
    register: Mapping[str, Any] = field(default_factory=dict)
    """Of an output: the dataset to register when the run has completed: ``name``, ``description``, ``tags``."""
    globs: Tuple[str, ...] = ()
    """Of an output that is copied back: only files that one of these matches; empty is all."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "DataSpec":
        """The spec that ``to_wire`` made ``data`` from; unknown keys are left out."""
        values = known_fields(cls, data)
        values["places"] = tuple(DataPlace.from_wire(place) for place in values.get("places") or ())
        return cls(**values)


def is_pattern(path: str) -> bool:
    """True when ``path`` is a pattern for files."""
    return any(sign in path for sign in "*?[")


def fixed_part(path: str) -> str:
    """The folder of ``path`` up to its first pattern, without a slash at its end (empty when there is none)."""
    parts = path.split("/")
    kept = []
    for part in parts[:-1]:
        if is_pattern(part):
            break
        kept.append(part)
    return "/".join(kept)


def pattern_expression(pattern: str) -> str:
    """``pattern`` as a regular expression: ``**`` crosses folders, ``*`` and ``?`` do not."""
    import re

    out, place = "", 0
    while place < len(pattern):
        sign = pattern[place]
        if pattern.startswith("**/", place):
            out, place = out + "(?:.*/)?", place + 3
            continue
        if pattern.startswith("**", place):
            out, place = out + ".*", place + 2
            continue
        end = pattern.find("]", place + 2) if sign == "[" else -1
        if end > 0:
            body = pattern[place + 1 : end].replace("\\", "\\\\")
            out += "[%s]" % ("^" + body[1:] if body.startswith("!") else body)
            place = end + 1
            continue
        out += "[^/]*" if sign == "*" else "[^/]" if sign == "?" else re.escape(sign)
        place += 1
    return out + r"\Z"


def chosen(count: int, steps: "Sequence[Mapping[str, Any]]") -> "List[int]":
    """Which of ``count`` files (or rows) are left after ``take``, ``skip`` and ``sample``; other steps choose none.

    ``sample`` keeps those whose number, drawn with its seed, is at least ``low`` and below ``high``.
    """
    import random

    left = list(range(count))
    for step in steps:
        if step["op"] == "take":
            left = left[: step["count"]]
        elif step["op"] == "skip":
            left = left[step["count"] :]
        elif step["op"] == "sample":
            draw = random.Random(step["seed"]).random
            left = [place for place in left if step["low"] <= draw() < step["high"]]
    return left


def common_names(paths: "Sequence[str]") -> "List[str]":
    """Each path relative to the deepest folder that holds them all; with forward slashes in and out."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = 0
    while folders and all(len(f) > shared and f[shared] == folders[0][shared] for f in folders):
        shared += 1
    return ["/".join(path.split("/")[shared:]) for path in paths]
