"""How results look: compact JSON, tables that fit the terminal, sentences on stderr."""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple, Optional, Sequence, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_STYLES = {
    "Completed": "green", "Failed": "red", "Canceled": "yellow", "CancelRequested": "yellow",
    "NotResponding": "magenta",
}  # fmt: skip
_LEAST = 4
_NARROWEST = 30


class Column(NamedTuple):
    """A column of a table. ``wraps``: its text may take several lines; the others are kept whole while they fit."""

    title: str
    right: bool = False
    wraps: bool = False


def say(text: str, style: str = "") -> None:
    """Tell the user something that is not the result."""
    sys.stdout.flush()  # on a terminal the two streams are one text
    if sys.stderr.isatty():
        from rich.text import Text

        _console(sys.stderr).print(Text(text, style=style), soft_wrap=True)
    else:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(text + "\n")


def as_json(value: Any) -> None:
    """Write ``value`` as one line of JSON."""
    result(json.dumps(value, separators=(",", ":")))


def table(columns: "Sequence[Column]", rows: "Sequence[Sequence[str]]", empty: str = "") -> None:
    """Write rows under their titles; for no rows, say ``empty`` on stderr.

    A terminal gets colours and lines that fit it; a pipe or a file gets each row whole on one line.
    """
    if not rows:
        say(empty)
        return
    clean = [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _fitted(columns, clean)
    else:
        _aligned(columns, clean)


def pairs(rows: "Iterable[tuple[str, str]]") -> None:
    """Write names with their values, one pair a line; values may hold line breaks."""
    shown = [(name, [plain(line) for line in value.split("\n")]) for name, value in rows if value]
    width = max([len(name) for name, _ in shown] or [0])
    for name, lines in shown:
        for place, line in enumerate(lines):
            _pair(name if place == 0 else "", width, line)


def plain(text: str) -> str:
    """``text`` on one line and without anything that a terminal would obey."""
    return _CONTROL.sub(" ", text)


def ago(then: "Optional[float]", now: "Optional[float]" = None) -> str:
    """How long ago a moment was, such as ``3 min ago``; empty for None."""
    if then is None:
        return ""
    passed = max(0.0, (time.time() if now is None else now) - then)
    return "now" if passed < 1 else "%s ago" % _coarse(passed)


def took(seconds: "Optional[float]") -> str:
    """A duration, such as ``3.2 s`` or ``2 h 05 min``; empty for None."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return "%.1f s" % seconds
    minutes = int(seconds) // 60
    if minutes < 60:
        return "%d min %02d s" % (minutes, int(seconds) % 60)
    return "%d h %02d min" % (minutes // 60, minutes % 60)


def size(count: "Optional[int]") -> str:
    """A number of bytes, such as ``12.3 KB``; empty for None."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024:
            return "%d B" % count if unit == "B" else "%.1f %s" % (amount, unit)
        amount /= 1024
    return "%.1f TB" % amount


def number(value: Any) -> str:
    """A metric's value: numbers short, anything else as JSON."""
    if isinstance(value, float):
        return "%.6g" % value
    return value if isinstance(value, str) else json.dumps(value)


def _coarse(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return "%d %s" % (seconds // length, unit)
    return "%d s" % seconds


def _aligned(columns: "Sequence[Column]", rows: "Sequence[Sequence[str]]") -> None:
    cells = [[column.title for column in columns], *rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    for row in cells:
        padded = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns)
        ]
        result("  ".join(padded).rstrip())


def _fitted(columns: "Sequence[Column]", rows: "Sequence[Sequence[str]]") -> None:
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    longest = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    whole = [
        not column.wraps and length <= max(_NARROWEST, console.width * 2 // 3)
        for column, length in zip(columns, longest)
    ]
    needed = sum(max(length, len(column.title)) + 2 if is_whole else _LEAST + 2
                 for column, length, is_whole in zip(columns, longest, whole))  # fmt: skip
    for column, is_whole in zip(columns, whole):
        # What is not wrapped is cut where there is no room for it, and a size without its unit is another size.
        shown.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold",
            no_wrap=is_whole and needed - 2 <= console.width,
        )  # fmt: skip
    for row in rows:
        shown.add_row(*[Text(cell, style=_STYLES.get(cell.split(":")[0], "")) for cell in row])
    console.print(shown)


def _pair(name: str, width: int, line: str) -> None:
    if not sys.stdout.isatty():
        result(("%s  %s" % (name.ljust(width), line)).rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=width, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    grid.add_row(name, Text(line, style=_STYLES.get(line.split(":")[0], "")))
    _console(sys.stdout).print(grid)


@functools.lru_cache(maxsize=None)
def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)
