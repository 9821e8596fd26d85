"""Chunks give back what went in, whatever it was and however they were joined."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.specs.spool import FLOAT, INT, JSON, NO_STEP
from windlassd.store._chunks import as_float, decode_steps, decode_times, decode_values, encode, join

_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
_STEP = st.none() | st.integers(-(1 << 63) + 1, (1 << 63) - 1)
_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_VALUE = st.tuples(st.just(FLOAT), st.floats()) | st.tuples(st.just(INT), _INT64) | st.tuples(st.just(JSON), _ANY_JSON)
_POINTS = st.lists(st.tuples(_INT64, _STEP, _VALUE), min_size=1, max_size=30)
_SAME = st.sampled_from([FLOAT, INT]).flatmap(
    lambda kind: st.lists(
        st.tuples(_INT64, _STEP, st.tuples(st.just(kind), st.floats() if kind == FLOAT else _INT64)), min_size=1
    )
)


def _chunk(points: list[Any]) -> Any:
    times, steps, values = zip(*points, strict=True)
    return encode({kind for kind, _ in values}, times, steps, [value for _, value in values])


def _steps(chunk: Any) -> list[int | None]:
    found = decode_steps(chunk)
    return [None] * chunk.length if found is None else [None if step == NO_STEP else step for step in found]


def _equal(one: Any, other: Any) -> bool:
    """Equal as numbers, NaN to itself; an integer may come back as the float that is equal to it."""
    if isinstance(one, int) and not isinstance(one, bool) and isinstance(other, float):
        return one == other
    return json.dumps(one) == json.dumps(other)


@settings(deadline=None)
@given(_POINTS | _SAME)
def test_points_survive_packing(points: list[Any]) -> None:
    chunk = _chunk(points)
    assert chunk.length == len(points)
    assert list(decode_times(chunk)) == [time for time, _, _ in points]
    assert _steps(chunk) == [step for _, step, _ in points]
    values = list(decode_values(chunk))
    assert all(_equal(value, found) for (_, _, (_, value)), found in zip(points, values, strict=True))


@settings(deadline=None)
@given(_POINTS | _SAME, st.sets(st.integers(1, 29), max_size=5))
def test_joined_chunks_are_the_points_of_all(points: list[Any], cuts: set[int]) -> None:
    ends = [0, *sorted(cut for cut in cuts if cut < len(points)), len(points)]
    chunk = join([_chunk(points[start:end]) for start, end in pairwise(ends)])
    assert list(decode_times(chunk)) == [time for time, _, _ in points]
    assert _steps(chunk) == [step for _, step, _ in points]
    values = list(decode_values(chunk))
    assert all(_equal(value, found) for (_, _, (_, value)), found in zip(points, values, strict=True))


@settings(deadline=None)
@given(_INT64)
def test_an_integer_in_a_float_series_keeps_its_value(value: int) -> None:
    assert as_float(value) == value


def test_steps_take_no_room_when_there_are_none() -> None:
    assert _chunk([(1, None, (FLOAT, 1.0))]).steps is None


def test_packed_numbers_take_eight_bytes() -> None:
    chunk = _chunk([(n, n, (FLOAT, 1.0)) for n in range(100)])
    assert (len(chunk.times), len(chunk.steps), len(chunk.points)) == (800, 800, 800)
