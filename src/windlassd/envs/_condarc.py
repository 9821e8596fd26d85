"""Reading ``.condarc``: the part of YAML that such files are made of, names with a value, a list or a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping

Value = str | list[str] | dict[str, str]

_NAME = re.compile(r"([\w-]+|'[^']*'|\"[^\"]*\")\s*:(?:\s+(.*))?\Z")
_COMMENT = re.compile(r"(?:^|\s)#.*\Z")
_INLINE = re.compile(r"\[(.*)\]\Z")


class Unreadable(ValueError):
    """A line that is none of these."""


def load(text: str) -> Mapping[str, Value]:
    """What the file holds, all values as text.

    Raises:
        Unreadable: names the line.
    """
    found: dict[str, Value] = {}
    name = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", raw).rstrip()
        if not line or line in ("---", "..."):
            continue
        part = line.lstrip()
        if part.startswith("- ") and name:
            _list(found, name, number).append(_plain(part[2:]))
        elif (match := _NAME.match(part)) is None:
            raise Unreadable(f"line {number}")
        elif part == line:
            name = _plain(match.group(1))
            found[name] = _value(match.group(2) or "", number)
        else:
            _mapping(found, name, number)[_plain(match.group(1))] = _plain(match.group(2) or "")
    return found


def _list(found: dict[str, Value], name: str, number: int) -> list[str]:
    value = found[name] or []
    if not isinstance(value, list):
        raise Unreadable(f"line {number}")
    found[name] = value
    return value


def _mapping(found: dict[str, Value], name: str, number: int) -> dict[str, str]:
    value = found.get(name) or {}
    if not name or not isinstance(value, dict):
        raise Unreadable(f"line {number}")
    found[name] = value
    return value


def _value(text: str, number: int) -> Value:
    if match := _INLINE.match(text.strip()):
        return [_plain(part) for part in match.group(1).split(",") if part.strip()]
    if text.lstrip().startswith(("[", "{", "|", ">", "&", "*")):
        raise Unreadable(f"line {number}")
    return _plain(text)


def _plain(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
