"""The runs an agent has not cleared up yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlassd.agent.ledger import Ledger


def test_a_successor_reads_what_was_left(tmp_path: Path) -> None:
    folder = str(tmp_path / "held")
    ledger = Ledger(folder)
    for run_id in ("b", "a", "a", "c"):
        ledger.add(run_id)
    ledger.remove("b")
    ledger.remove("b")
    assert Ledger(folder).runs() == ["a", "c"]


def test_a_folder_that_cannot_be_written_keeps_no_run_from_going(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(str(tmp_path / "held"))
    os.rmdir(tmp_path / "held")
    ledger.add("a")
    assert "a cannot be noted" in caplog.text
