"""Metric series on the wire."""

from __future__ import annotations

import json
import math

from windlassd.control.metrics import of_run, to_json, to_wire
from windlassd.store.base import Series, SeriesSummary

NAN, INFINITY = math.nan, math.inf


def test_numbers_that_json_has_not_travel_as_text_and_tables_say_which_they_were() -> None:
    found = to_wire([
        Series("loss", "float", 3, [1.0, 2.0, 3.0], [None, None, 3], [NAN, 0.5, -INFINITY]),
        Series("row", "json", 2, [1.0, 2.0], [None, None], [{"x": [INFINITY, 1], "y": "NaN"}, {"x": True}]),
        Series("text", "json", 1, [1.0], [None], ["NaN"]),
        Series("count", "int", 1, [1.0], [None], [1 << 60]),
    ])  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["loss"]["values"] == ["NaN", 0.5, "-Infinity"]
    assert found["row"]["values"] == [{"x": ["Infinity", 1], "y": "NaN"}, {"x": True}]
    assert json.loads(found["row"]["exact"]) == [{"x": [INFINITY, 1], "y": "NaN"}, {"x": True}]
    assert [name for name in found if "exact" in found[name]] == ["row"]
    assert found["count"]["values"] == [1 << 60]


def test_a_long_series_is_written_in_pieces_that_say_the_same() -> None:
    values = [n / 7 for n in range(20_000)]
    values[9_000], values[19_999] = NAN, -INFINITY
    times, steps = [float(n) for n in range(20_000)], [None if n % 2 else n for n in range(20_000)]
    series = [
        Series("lo\"ss", "float", 20_000, times, steps, values), Series("rows", "json", 1, [1.0], [None], [{"x": NAN}]),
        Series("n", "int", 8_192, times[:8_192], steps[:8_192], list(range(8_192))), Series("no", "int", 0, [], [], []),
    ]  # fmt: skip
    pieces = list(to_json(series))
    assert json.loads("".join(pieces)) == to_wire(series)
    assert max(map(len, pieces)) < 300_000
    assert json.loads("".join(to_json([]))) == {}


def test_a_comparison_has_no_tables() -> None:
    summaries = [
        SeriesSummary("loss", "float", 3, NAN, 2, 0.5, INFINITY),
        SeriesSummary("table", "json", 1, {"x": [1]}, None, None, None),
        SeriesSummary("net", "json", 1, "resnet", None, None, None),
    ]
    found = of_run(summaries)
    loss = {"type": "float", "count": 3, "last": "NaN", "last_step": 2, "minimum": 0.5, "maximum": "Infinity"}
    assert found["loss"] == loss
    assert (found["table"]["last"], found["net"]["last"]) == (None, "resnet")
