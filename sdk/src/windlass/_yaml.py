"""A small strict reader and writer of YAML: the block mappings, lists and scalars that conda and run files are made of.

What it does not read (anchors, block text, tags) is given to PyYAML where that is installed, and is an error elsewhere:
guessing would install the wrong packages.
"""

from __future__ import annotations

import re
from typing import Any, List, NamedTuple, Optional, Tuple

from windlass.errors import UserErrorException

_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#&*!|>%@`{\[\]},'"][^#]*?)\s*:(?=\s|\Z)\s*(.*)\Z""")
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)\Z")
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?\Z")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
          "false": False, "False": False, "FALSE": False}  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9_./$][A-Za-z0-9_./=<>!~+@$ -]*(?<! )\Z")


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


class _Unreadable(Exception):
    """A line this reader does not understand."""

    def __init__(self, line: _Line) -> None:
        super().__init__(line.number, line.text)


def load(text: str, where: str) -> Any:
    """What the YAML ``text`` holds; ``where`` names it in messages.

    Raises:
        UserErrorException: it cannot be read; names the line.
    """
    lines = _lines(text)
    try:
        value, rest = _block(lines, 0, lines[0].indent) if lines else (None, 0)
        if rest < len(lines):
            raise _Unreadable(lines[rest])
        return value
    except _Unreadable as problem:
        return _by_pyyaml(text, where, problem.args[0], problem.args[1])


def dump(value: Any) -> str:
    """``value`` (dictionaries, lists, scalars) as YAML that ``load`` and every YAML reader reads back."""
    return "\n".join(_dumped(value, 0)) + "\n"


def scalar(value: Any) -> str:
    """One value as YAML text on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)
    if _PLAIN.match(text) and text not in _WORDS and not _INTEGER.match(text) and not _FLOAT.match(text):
        return text
    if "\n" in text or not text.isprintable():
        import json

        return json.dumps(text)
    return "'%s'" % text.replace("'", "''")


def _dumped(value: Any, indent: int) -> "List[str]":
    pad, found = " " * indent, []  # type: Tuple[str, List[str]]
    if isinstance(value, dict) and value:
        for key, item in value.items():
            head = "%s%s:" % (pad, scalar(key))
            found += [head] + _dumped(item, indent + 2) if _nested(item) else ["%s %s" % (head, _flat(item))]
        return found
    if isinstance(value, (list, tuple)) and value:
        for item in value:
            if _nested(item):
                below = _dumped(item, indent + 2)
                found += ["%s- %s" % (pad, below[0].lstrip())] + below[1:]
            else:
                found.append("%s- %s" % (pad, _flat(item)))
        return found
    return [pad + _flat(value)]


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple)) and bool(value)


def _flat(value: Any) -> str:
    return "{}" if isinstance(value, dict) else "[]" if isinstance(value, (list, tuple)) else scalar(value)


def _lines(text: str) -> "List[_Line]":
    found = []
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = _without_comment(raw).rstrip()
        bare = line.lstrip(" ")
        if bare and bare not in ("---", "..."):
            found.append(_Line(number, len(line) - len(bare), bare))
    return found


def _without_comment(line: str) -> str:
    quote: "Optional[str]" = None
    for place, sign in enumerate(line):
        if quote:
            quote = None if sign == quote else quote
        elif sign in "'\"" and (place == 0 or line[place - 1] in " [{,:-"):
            quote = sign
        elif sign == "#" and (place == 0 or line[place - 1] in " \t"):
            return line[:place]
    return line


def _block(lines: "List[_Line]", at: int, indent: int) -> "Tuple[Any, int]":
    """The value whose lines begin at ``at`` with ``indent``, and where it ends."""
    line = lines[at]
    if line.indent != indent or "\t" in line.text:
        raise _Unreadable(line)
    if line.text == "-" or line.text.startswith("- "):
        return _list(lines, at, indent)
    if _KEY.match(line.text):
        return _mapping(lines, at, indent)
    return _scalar(line, line.text), at + 1


def _list(lines: "List[_Line]", at: int, indent: int) -> "Tuple[List[Any], int]":
    found: "List[Any]" = []
    while at < len(lines) and lines[at].indent == indent and (lines[at].text == "-" or lines[at].text[:2] == "- "):
        line = lines[at]
        inner = line.text[1:].lstrip(" ")
        offset = indent + len(line.text) - len(inner)
        if not inner:
            below = at + 1 < len(lines) and lines[at + 1].indent > indent
            value, at = _block(lines, at + 1, lines[at + 1].indent) if below else (None, at + 1)
        elif _KEY.match(inner) or inner.startswith("- "):
            lines[at] = _Line(line.number, offset, inner)
            value, at = _block(lines, at, offset)
        else:
            value, at = _scalar(line, inner), at + 1
        found.append(value)
    if at < len(lines) and lines[at].indent > indent:
        raise _Unreadable(lines[at])
    return found, at


def _mapping(lines: "List[_Line]", at: int, indent: int) -> "Tuple[Any, int]":
    found = {}
    while at < len(lines) and lines[at].indent == indent:
        line = lines[at]
        match = _KEY.match(line.text)
        if not match:
            break
        key, inner = _scalar(line, match.group(1)), match.group(2)
        if key in found:
            raise _Unreadable(line)
        at += 1
        if inner:
            value = _scalar(line, inner)
        elif at < len(lines) and (lines[at].indent > indent or _is_item(lines[at], indent)):
            value, at = _block(lines, at, lines[at].indent)
        else:
            value = None
        found[key] = value
    if at < len(lines) and lines[at].indent > indent:
        raise _Unreadable(lines[at])
    return found, at


def _is_item(line: _Line, indent: int) -> bool:
    """True for a list that stands as far left as the key it belongs to."""
    return line.indent == indent and (line.text == "-" or line.text.startswith("- "))


def _scalar(line: _Line, text: str) -> Any:
    if text[:1] in "'\"":
        return _quoted(line, text)
    if text[:1] in "[{":
        return _flow(line, text)
    if text[:1] in "&*!|>%@`" or ": " in text:
        raise _Unreadable(line)
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _quoted(line: _Line, text: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise _Unreadable(line)
    inner = text[1:-1]
    if text[0] == "'":
        if "'" in inner.replace("''", ""):
            raise _Unreadable(line)
        return inner.replace("''", "'")
    import json

    try:
        return str(json.loads(text))
    except ValueError:
        raise _Unreadable(line) from None


def _flow(line: _Line, text: str) -> Any:
    """``[a, b]`` and ``{a: b}`` of scalars on one line."""
    closing = {"[": "]", "{": "}"}[text[0]]
    inner = text[1:-1].strip()
    if text[-1:] != closing or re.search(r"[\[\]{}]", inner):
        raise _Unreadable(line)
    parts = [part.strip() for part in re.findall(r"""(?:"[^"]*"|'[^']*'|[^,"'])+""", inner)] if inner else []
    if text[0] == "[":
        return [_scalar(line, part) for part in parts if part]
    pairs = [_KEY.match(part) for part in parts if part]
    if not all(pairs):
        raise _Unreadable(line)
    return {_scalar(line, pair.group(1)): _scalar(line, pair.group(2)) for pair in pairs if pair}


def _by_pyyaml(text: str, where: str, number: int, line: str) -> Any:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise UserErrorException(
            "%s cannot be read: line %d, %r, is not plain YAML (mappings, lists, text and numbers). Write it plainly, "
            "or install PyYAML." % (where, number, line)
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise UserErrorException("%s cannot be read: it is no YAML: %s" % (where, problem)) from problem
