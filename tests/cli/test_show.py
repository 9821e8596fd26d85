"""How tables, times and sizes look; on a terminal, through a pseudo-terminal of that width."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
import rich.console

from cli.conftest import COMMAND, History
from windlass.cli import _show


@pytest.mark.parametrize(
    "seconds, expected", [(0, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert _show.took(seconds) == expected


@pytest.mark.parametrize(
    "passed, expected", [(0.2, "now"), (59, "59 s ago"), (3700, "1 h ago"), (200000, "2 d ago"), (-5, "now")]
)
def test_moments(passed: float, expected: str) -> None:
    assert _show.ago(1000.0, now=1000.0 + passed) == expected


@pytest.mark.parametrize("count, expected", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (5 << 40, "5.0 TB")])
def test_sizes(count: int, expected: str) -> None:
    assert _show.size(count) == expected


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    assert _show.plain("a\x1b[31mred\x07\nb\x9b") == "a [31mred b "


def test_piped_rows_are_whole_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (_show.Column("NAME"), _show.Column("N", right=True), _show.Column("WHY", wraps=True))
    _show.table(columns, [("a", "1", "x" * 300), ("bbb", "22", "")])
    assert capsys.readouterr().out == f"NAME   N  WHY\na      1  {'x' * 300}\nbbb   22\n"


def test_pairs_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    _show.pairs([("Name", "x"), ("Nothing", ""), ("Lines", "1\n 2")])
    assert capsys.readouterr().out == "Name   x\nLines  1\n        2\n"


def test_on_a_terminal_that_is_too_narrow_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(_show, "_console", lambda stream: rich.console.Console(file=written, width=20))
    row = ("f402a9a02515", "436.0 KB", "of a run")
    _show.table([_show.Column("KEY"), _show.Column("SIZE", right=True), _show.Column("NOTE", wraps=True)], [row])
    assert sorted("".join(written.getvalue().split())) == sorted("KEYSIZENOTE" + "".join(row).replace(" ", ""))
    assert max(map(len, written.getvalue().splitlines())) <= 20


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_tables_fit_and_ids_stay_whole(history: History, width: int) -> None:
    shown = on_terminal(width, "ps")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[1].startswith(history.bad) and "\x1b[31m" in shown, "a failed run is red"


def on_terminal(width: int, *words: str) -> str:
    """What a command writes to a terminal of that width."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    for name in ("COLUMNS", "NO_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen([*COMMAND, *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment):
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(controller, 65536)
            except OSError:  # the last writer has gone
                break
    os.close(controller)
    return shown.decode().replace("\r\n", "\n")
