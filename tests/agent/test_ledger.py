"""The runs an agent has not cleared up yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlassd.agent.ledger import Ledger


def test_a_successor_reads_what_was_left(tmp_path: Path) -> None:
    folder = str(tmp_path / "held")
    ledger = Ledger(folder)
    for key in (("b", 1, 0), ("a", 1, 0), ("a", 1, 0), ("a", 1, 1), ("a.b_1", 2, 10)):
        ledger.add(key)
    ledger.remove(("b", 1, 0))
    ledger.remove(("b", 1, 0))
    assert Ledger(folder).parts() == {("a", 1, 0), ("a", 1, 1), ("a.b_1", 2, 10)}


def test_what_agents_before_there_were_parts_noted_is_read_and_struck_out(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    (tmp_path / "exp.2_17_ab").touch()
    assert ledger.parts() == {("exp.2_17_ab", 1, 0)}
    ledger.remove(("exp.2_17_ab", 1, 0))
    assert ledger.parts() == set()


def test_a_folder_that_cannot_be_written_keeps_no_run_from_going(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(str(tmp_path / "held"))
    os.rmdir(tmp_path / "held")
    ledger.add(("a", 1, 0))
    assert "a cannot be noted" in caplog.text
