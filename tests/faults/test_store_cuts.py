"""The store, cut at each of its operations on the disk by death and by power loss: what was acknowledged is there.

``--rounds`` is the share of all moments in percent: 100 tries every one.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from faults.cuts import Cutter, digest, moments
from faults.power import holds
from faults.workloads import PLACE, steps
from windlass.specs.spool import JSON
from windlassd.store.schema import metadata
from windlassd.store.sql import FILE, SqlStore


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """What the database holds after none, one, two … of the steps."""
    folder = tmp_path_factory.mktemp("reference")
    store = SqlStore.open(str(folder))
    found = [_content(folder)]
    for step in steps():
        store.write(step).result()
        found.append(_content(folder))
    _assert_points_agree(folder)
    store.close()
    return found


@pytest.fixture
def cutter(tmp_path: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path, "store")
    yield made
    made.close()


def test_reference_states_differ(states: Sequence[str]) -> None:
    assert len(set(states)) >= len(states) - 2  # the two batches that change nothing


@pytest.mark.faults
def test_killed_at_any_operation(
    cutter: Cutter, states: Sequence[str], chance: random.Random, rounds: Callable[[int], range]
) -> None:
    share = min(1.0, len(rounds(5)) / 100)
    for number, when, torn in moments(chance, cutter.operations(), share):
        told = cutter.killed_at(number, when, torn)
        _check(cutter.at, told, states, f"killed at {number}, {when}, {torn}")


@pytest.mark.faults
def test_power_lost_at_any_operation(
    cutter: Cutter, states: Sequence[str], chance: random.Random, rounds: Callable[[int], range]
) -> None:
    share = min(1.0, len(rounds(12)) / 100)
    for what, told, folder in cutter.powerless().cuts(chance, share, tries=4):
        _check(folder, told, states, what)


def test_power_lost_now_and_then(cutter: Cutter, states: Sequence[str], chance: random.Random) -> None:
    for what, told, folder in cutter.powerless().cuts(chance, 0.02, tries=2):
        _check(folder, told, states, what)


def _check(folder: Path, told: Sequence[str], states: Sequence[str], what: str) -> None:
    """Open what is left, twice: the same prefix of the steps, no shorter than what was acknowledged."""
    folder = folder / PLACE
    what = f"{what}; acknowledged: {told[-1] if told else 'nothing'}; left: {holds(folder)}"
    done = len(states) - 1 if told[-1:] == ["closed"] else int(told[-1]) if told else 0
    for _ in range(2):
        SqlStore.open(str(folder)).close()
        _assert_whole(folder, what)
        content = _content(folder)
        assert content in states, f"{what}: a step is done in part"
        last = len(states) - 1 - states[::-1].index(content)
        assert last >= done, f"{what}: {done} steps were acknowledged, {last} are there"


def _content(folder: Path) -> str:
    db = sqlite3.connect(folder / FILE)
    try:
        return digest([row for table in metadata.sorted_tables for row in _rows(db, table.name)])
    finally:
        db.close()


def _rows(db: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return sorted(db.execute(f"SELECT '{table}', * FROM {table}"), key=repr)


def _assert_whole(folder: Path, what: str) -> None:
    db = sqlite3.connect(folder / FILE)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], what
        assert db.execute("PRAGMA foreign_key_check").fetchall() == [], what
    finally:
        db.close()


def _assert_points_agree(folder: Path) -> None:
    """Sums of chunks, summaries and packed bytes tell the same number of points; so then does every state cut short."""
    db = sqlite3.connect(folder / FILE)
    summed = "SELECT series_id, sum(length), sum(length(times)) FROM chunks GROUP BY series_id"
    for series, points, size in db.execute(summed).fetchall():
        assert db.execute("SELECT length FROM series WHERE id = ?", [series]).fetchone() == (points,)
        assert size == 8 * points
    wrong = db.execute("SELECT count(*) FROM chunks WHERE kind != ? AND length(points) != 8 * length", [JSON])
    assert wrong.fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM chunks WHERE sealed").fetchone() > (0,)
    db.close()
