"""The spool's bytes: whatever happens to them, no point comes out that was not put in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.specs import spool
from windlass.specs.spool import FLOAT, INT, JSON, LOST, NO_STEP, SERIES, Frame, TornFrame, decode, whole_frames

quick = settings(max_examples=60, deadline=None, database=None)
_i64 = st.integers(-(1 << 63) + 1, (1 << 63) - 1)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3), max_leaves=5,
)  # fmt: skip


def sealed(frame: Frame) -> bytes:
    step = NO_STEP if frame.step is None else frame.step
    if frame.kind == FLOAT:
        return spool.seal(spool.FLOAT_BODY.pack(FLOAT, frame.series, frame.time_us, step, frame.value))
    if frame.kind == INT:
        return spool.seal(spool.INT_BODY.pack(INT, frame.series, frame.time_us, step, frame.value))
    if frame.kind == JSON:
        return spool.json_frame(frame.series, frame.time_us, step, frame.value)
    if frame.kind == SERIES:
        return spool.series_frame(frame.series, frame.value)
    return spool.lost_frame(frame.value)


_series = st.integers(0, (1 << 32) - 1)
_step = st.none() | _i64
frames = st.lists(
    st.builds(Frame, st.just(FLOAT), _series, _i64, _step, st.floats(allow_nan=False))
    | st.builds(Frame, st.just(INT), _series, _i64, _step, _i64)
    | st.builds(Frame, st.just(JSON), _series, _i64, _step, _json)
    | st.builds(Frame, st.just(SERIES), _series, st.just(0), st.none(), st.builds(dict, name=st.text("ab /é")))
    | st.builds(Frame, st.just(LOST), st.just(0), st.just(0), st.none(), st.integers(0, (1 << 64) - 1)),
    max_size=8,
)


def until_damage(data: bytes) -> tuple[list[Frame], bool]:
    """The frames that come out, and whether damage was noticed."""
    found: list[Frame] = []
    try:
        found.extend(frame for _, frame in decode(data))
    except TornFrame:
        return found, True
    return found, False


@given(frames)
@quick
def test_there_and_back(given_frames: list[Frame]) -> None:
    data = b"".join(map(sealed, given_frames))
    assert [frame for _, frame in decode(data)] == given_frames
    assert whole_frames(data) == len(data)
    ends = [end for end, _ in decode(data)]
    assert ends == sorted(ends) and (not ends or ends[-1] == len(data))


@given(frames, st.data())
@quick
def test_a_cut_gives_a_prefix_and_no_damage(given_frames: list[Frame], data: st.DataObject) -> None:
    whole = b"".join(map(sealed, given_frames))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found, damaged = until_damage(cut)
    assert not damaged and found == given_frames[: len(found)]
    assert whole_frames(cut) == sum(len(sealed(f)) for f in found)


@given(frames.filter(bool), st.data())
@quick
def test_a_changed_byte_never_gives_a_wrong_point(given_frames: list[Frame], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(sealed, given_frames)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    found, _ = until_damage(bytes(whole))
    assert found == given_frames[: len(found)] and len(found) < len(given_frames)


@given(st.binary(max_size=200))
@quick
def test_junk_is_refused_or_unfinished_but_no_surprise(junk: bytes) -> None:
    found, _ = until_damage(junk)
    assert found == [] or whole_frames(junk) > 0
    assert 0 <= whole_frames(junk) <= len(junk)


@given(frames.filter(bool), st.data())
@quick
def test_reading_goes_on_behind_a_damaged_body(given_frames: list[Frame], data: st.DataObject) -> None:
    pieces = [bytearray(sealed(f)) for f in given_frames]
    which = data.draw(st.integers(0, len(pieces) - 1))
    pieces[which][-1] ^= 1
    whole, start = b"".join(map(bytes, pieces)), sum(map(len, pieces[:which]))
    assert [f for _, f in decode(whole, spool.after(whole, start))] == given_frames[which + 1 :]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_survive(value: float) -> None:
    for data in (sealed(Frame(FLOAT, 1, 2, None, value)), spool.json_frame(1, 2, NO_STEP, [value])):
        ((_, frame),) = decode(data)
        got = frame.value if frame.kind == FLOAT else frame.value[0]
        assert got == value or (math.isnan(got) and math.isnan(value))
        assert frame.step is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x09",
        b"\x01\x00",
        bytes([FLOAT]) + b"\0" * 5,
        bytes([SERIES]) + b"\0" * 4 + b"{",
        bytes([JSON]) + b"\xff" * 30,
    ],
)
def test_a_body_that_fits_its_crc_and_nothing_else(body: bytes) -> None:
    with pytest.raises(TornFrame):
        list(decode(spool.seal(body)))


GOOD = spool.lost_frame(1)
POINTS = [spool.json_frame(1, i, NO_STEP, i) for i in range(5)]


@pytest.mark.parametrize(
    "junk",
    [
        spool.HEADER.pack(spool.MAX_BODY_BYTES + 1, 0) + b"x" * 20,
        spool.HEADER.pack(200, 0) + b"x" * 20,
        bytes(4096),
        b"\xff" * 7,
    ],
    ids=["absurd length", "too long", "zeros", "short"],
)
def test_reading_goes_on_behind_junk(junk: bytes) -> None:
    """Junk says nothing true of its length: what comes after it is found by its checksum."""
    data = GOOD + junk + b"".join(POINTS)
    assert whole_frames(data, last=True) == len(data)
    found, damage = spool.sound_frames(data)
    assert [f.value for f in found if f.kind == JSON] == [0, 1, 2, 3, 4] and len(damage) == 1
    lost = sum(f.value for f in found if f.kind == LOST) - 1
    assert lost == max(1, len(junk) // 37), "as many points as would fit there"


@pytest.mark.parametrize("size", [1, 7, 8, 20])
def test_an_unfinished_frame_is_waited_for_until_nobody_writes(size: int) -> None:
    data = GOOD + POINTS[0][:size]
    assert whole_frames(data) == len(GOOD)
    assert whole_frames(data, last=True) == len(data)
    assert [f.value for f in spool.sound_frames(data)[0]] == [1, 1]


@given(frames.filter(bool), st.binary(max_size=60), st.data())
@quick
def test_no_junk_costs_more_than_its_place(given_frames: list[Frame], junk: bytes, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(given_frames)))
    pieces = [sealed(f) for f in given_frames]
    whole = b"".join([*pieces[:which], junk, *pieces[which:]])
    found = [f for f in spool.sound_frames(whole)[0] if f in given_frames]
    assert found[:which] == given_frames[:which]
    assert [f for f in found if f.kind != LOST][-1:] == [f for f in given_frames if f.kind != LOST][-1:]


def test_junk_that_wants_to_be_searched_for_ever_is_given_up() -> None:
    header = spool.HEADER.pack(500_000, 0)
    made = (header + bytes([JSON]) + b"x" * 3) * 100_000
    assert spool.past_damage(made, 0) == 500_008


def test_an_absurd_length_is_damage() -> None:
    with pytest.raises(TornFrame, match="claims"):
        list(decode(GOOD + spool.HEADER.pack(spool.MAX_BODY_BYTES + 1, 0) + b"x" * 20))


@pytest.mark.parametrize(("kind", "lost"), [(spool.NOTES, 0), (255, 0), (LOST + 1, 1), (spool.NOTES - 1, 1)])
def test_what_a_later_version_adds_is_skipped_or_counted(kind: int, lost: int) -> None:
    """A note holds no point; what may be a point is told as one that is missing. Neither hides what comes after it."""
    later = spool.seal(bytes([kind]) + b'{"version": 2}')
    for data in (later + POINTS[0], POINTS[0] + later):
        assert whole_frames(data) == len(data)
        found, damage = spool.sound_frames(data)
        assert [f.value for f in found if f.kind == JSON] == [0]
        assert sum(f.value for f in found if f.kind == LOST) == lost == len(damage)
