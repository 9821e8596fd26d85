"""Read a conda environment file: channels, conda packages, pip packages."""

from __future__ import annotations

from typing import Any, List, Tuple

from windlass import _yaml
from windlass.errors import UserErrorException

Parts = Tuple[List[str], List[str], List[str]]
"""Channels, conda packages, pip packages with pip's options."""
_KNOWN = ("name", "channels", "dependencies", "prefix", "variables")


def read_conda_file(path: str) -> Parts:
    """What the file at ``path`` asks for.

    Raises:
        UserErrorException: it cannot be read, or holds what no environment can have.
    """
    import os

    place = os.path.abspath(os.path.expanduser(os.fspath(path)))
    try:
        with open(place, encoding="utf-8-sig") as f:
            text = f.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", problem)
        raise UserErrorException("The conda file %s cannot be read: %s." % (place, reason)) from problem
    return parts(_yaml.load(text, "The conda file %s" % place), "The conda file %s" % place)


def parts(data: Any, where: str) -> Parts:
    """The parts of a conda environment file that was read already.

    Raises:
        UserErrorException: an entry is not what stands there in such files.
    """
    if not isinstance(data, dict):
        raise UserErrorException("%s holds no mapping with 'dependencies'." % where)
    for key in data:
        if key not in _KNOWN:
            raise UserErrorException("%s has the key %r; known are: %s." % (where, key, ", ".join(_KNOWN)))
    if data.get("variables"):
        raise UserErrorException("%s sets variables; give them as environment_variables." % where)
    channels = _texts(data.get("channels"), where, "channels")
    conda: "List[str]" = []
    pip: "List[str]" = []
    entries = data.get("dependencies") or []
    if not isinstance(entries, list):
        raise UserErrorException("%s: 'dependencies' must be a list, not %r." % (where, entries))
    for entry in entries:
        if isinstance(entry, dict) and list(entry) == ["pip"]:
            pip += _texts(entry["pip"], where, "pip")
        else:
            conda += _texts([entry], where, "dependencies")
    return channels, conda, pip


def _texts(values: Any, where: str, key: str) -> "List[str]":
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserErrorException("%s: %r must be a list of text, not %r." % (where, key, values))
    return values
