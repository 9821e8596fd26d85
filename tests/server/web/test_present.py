from __future__ import annotations

import math
from typing import Any

import pytest

from windlass.specs.status import RunStatus
from windlassd.server.web import present


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"), (0, "0.0 s"), (0.006, "6 ms"), (0.4, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 min"), (200, "3 min 20 s"), (3599.7, "1 h"), (7500, "2 h 5 min"), (86400, "1 d"),
        (187200, "2 d 4 h"), (86400 * 100, "100 d"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert present.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "just now"), (4, "just now"), (59, "59 s ago"), (60, "1 min ago"), (7300, "2 h ago"),
     (86400 * 30, "30 d ago"), (86400 * 31, "2026-10-20")],
)  # fmt: skip
def test_ago(seconds: float, text: str) -> None:
    now = 1795132800.0 + 43200  # 2026-11-20 12:00 UTC
    assert present.ago(now - seconds, now) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (812, "812 B"), (1000, "1.0 kB"), (99600, "100 kB"), (999999, "1.0 MB"), (5 * 10**12, "5.0 TB")],
)
def test_sizes(count: int, text: str) -> None:
    assert present.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.12346"), (-2.5, "\N{MINUS SIGN}2.5"), (1437, "1\u202f437"), (math.nan, "NaN"), ("NaN", "NaN"),
        (math.inf, "∞"), ("-Infinity", "\N{MINUS SIGN}∞"), (True, "true"), ([1, 2], "[1, 2]"),
        ("x" * 99, '"' + "x" * 58 + "…"),
    ],
)  # fmt: skip
def test_numbers(value: Any, text: str) -> None:
    assert present.number(value) == text


def test_every_status_has_words_and_a_tone() -> None:
    assert present.words(RunStatus.NOT_RESPONDING) == "Not responding"
    assert {present.tone(status) for status in RunStatus} == {"waiting", "active", "trouble", "good", "bad", "stopped"}


def test_what_json_cannot_hold_is_named() -> None:
    assert present.json_ready({"a": [math.nan, (math.inf, -math.inf)], "b": 1.5}) == {
        "a": ["NaN", ["Infinity", "-Infinity"]],
        "b": 1.5,
    }
