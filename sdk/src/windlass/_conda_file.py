"""Read a conda environment file: channels, conda packages, pip packages."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Tuple

from windlass import _yaml
from windlass.errors import UserErrorException

Parts = Tuple[List[str], List[str], List[str], Dict[str, str]]
"""Channels, conda packages, pip packages with pip's options, environment variables."""
_FILE = re.compile(r"(-r|--requirement)\b")
_KNOWN = ("name", "channels", "dependencies", "prefix", "variables")


def read_conda_file(path: str) -> Parts:
    """What the file at ``path`` asks for.

    Raises:
        UserErrorException: it cannot be read, or holds what no environment can have.
    """
    place = os.path.abspath(os.path.expanduser(os.fspath(path)))
    try:
        with open(place, encoding="utf-8-sig") as f:
            text = f.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", problem)
        raise UserErrorException("The conda file %s cannot be read: %s." % (place, reason)) from problem
    where = "The conda file %s" % place
    return parts(_yaml.load(text, where), where, place)


def parts(data: Any, where: str, place: "Optional[str]" = None) -> Parts:
    """The parts of a conda environment file that was read already, from the file ``place``.

    Raises:
        UserErrorException: an entry is not what stands there in such files.
    """
    if not isinstance(data, dict):
        raise UserErrorException("%s holds no mapping with 'dependencies'." % where)
    for key in data:
        if key not in _KNOWN:
            raise UserErrorException("%s has the key %r; known are: %s." % (where, key, ", ".join(_KNOWN)))
    channels = _texts(data.get("channels"), where, "channels")
    conda: "List[str]" = []
    pip: "List[str]" = []
    entries = data.get("dependencies") or []
    if not isinstance(entries, list):
        raise UserErrorException("%s: 'dependencies' must be a list, not %r." % (where, entries))
    for entry in entries:
        if isinstance(entry, dict) and list(entry) == ["pip"]:
            for line in _texts(entry["pip"], where, "pip"):
                pip += _pip_line(line, where, place)
        else:
            conda += _texts([entry], where, "dependencies")
    return channels, conda, pip, _variables(data.get("variables"), where)


def _pip_line(line: str, where: str, place: "Optional[str]") -> "List[str]":
    """The packages of one line: of the file it includes, or itself. Paths count from the folder of the file."""
    if place is not None:
        from windlass._requirements_file import read_line

        return read_line(line, place)
    if _FILE.match(line.strip()):
        raise UserErrorException("%s includes %s, which is not at hand here. List its packages." % (where, line))
    return [line]


def _variables(values: Any, where: str) -> "Dict[str, str]":
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(value, (str, int, float)) for value in values.values()):
        raise UserErrorException("%s: 'variables' must be names with values, not %r." % (where, values))
    return {str(name): str(value) for name, value in values.items()}


def _texts(values: Any, where: str, key: str) -> "List[str]":
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserErrorException("%s: %r must be a list of text, not %r." % (where, key, values))
    return values
