"""Thinned series keep what a viewer must see."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from windlassd.store._downsample import picked


@settings(deadline=None)
@given(st.lists(st.floats(), max_size=300), st.integers(1, 100))
def test_extremes_ends_and_holes_are_never_hidden(values: list[float], points: int) -> None:
    places = picked(values, points)
    assert places == sorted(set(places))
    shown = [values[place] for place in places]
    numbers = [value for value in values if not math.isnan(value)]
    if numbers:
        assert min(numbers) in shown
        assert max(numbers) in shown
    assert any(map(math.isnan, values)) == any(map(math.isnan, shown))
    assert places[:1] == [0][: len(values)]
    assert len(places) <= max(points, 5)


def test_a_short_series_is_whole() -> None:
    assert picked([3.0, 1.0, 2.0], 3) == [0, 1, 2]
    assert picked([], 10) == []


def test_each_part_of_a_long_series_is_shown() -> None:
    places = picked([float(n % 7) for n in range(10_000)], 100)
    assert 50 <= len(places) <= 100
    assert max(after - before for before, after in pairwise(places)) <= 10_000 / 49 + 14
