"""The table of findings: every kind is found somewhere, and some test provokes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass.specs.findings import CODES, ERROR, NOTE, WARNING, finding

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*(ROOT / "src/windlassd/doctor").glob("*.py"), ROOT / "sdk/src/windlass/_doctor.py"]
TESTS = [*Path(__file__).parent.glob("test_*.py"), ROOT / "tests/cli/test_doctor.py"]
COMPOSED = {"snapshot_incomplete", "model_incomplete"}
"""Codes that the source puts together."""


@pytest.mark.parametrize("code", sorted(CODES))
def test_each_kind_is_found_and_tested(code: str) -> None:
    assert code in COMPOSED or any(f'"{code}"' in path.read_text() for path in SOURCES), "no check finds it"
    assert any(code in path.read_text() for path in TESTS if path.name != "test_codes.py"), "no test provokes it"


def test_each_kind_says_what_it_means_and_what_to_do() -> None:
    for name, code in CODES.items():
        assert code.severity in (ERROR, WARNING, NOTE) and code.means.endswith("."), name
        assert code.repair or code.advice, f"{name}: neither the doctor nor the user can do anything"
        assert all(not text or text.endswith(".") for text in (code.repair, code.advice)), name


def test_a_finding_that_cannot_be_mended_here_promises_nothing() -> None:
    assert finding("tag_index", "run", "It differs.").repair
    assert finding("tag_index", "run", "It differs.", mendable=False).repair == ""
