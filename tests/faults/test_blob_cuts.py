"""Blobs, cut at each operation: one is absent or whole, and what was acknowledged is there after a power loss.

``--rounds`` is the share of all moments in percent: 100 tries every one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from faults.cuts import Cutter, moments
from faults.power import holds
from faults.workloads import blob
from windlassd.blobs.files import FileBlobStore

REMOVED = 2


@pytest.fixture
def cutter(tmp_path: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path, "blobs")
    yield made
    made.close()


@pytest.mark.faults
def test_killed_at_any_operation(cutter: Cutter, chance: random.Random, rounds: Callable[[int], range]) -> None:
    for number, when, torn in moments(chance, cutter.operations(), min(1.0, len(rounds(10)) / 100)):
        told = cutter.killed_at(number, when, torn)
        _check(cutter.at, told, f"killed at {number}, {when}, {torn}")


@pytest.mark.faults
def test_power_lost_at_any_operation(cutter: Cutter, chance: random.Random, rounds: Callable[[int], range]) -> None:
    for what, told, folder in cutter.powerless().cuts(chance, min(1.0, len(rounds(15)) / 100), tries=3):
        _check(folder, told, what)


def _check(folder: Path, told: Sequence[str], what: str) -> None:
    what = f"{what}; left: {holds(folder)}"
    store = FileBlobStore(str(folder / "blobs"))
    there = set(store.hashes())
    for name in there:
        with store.open(name) as file:
            assert hashlib.sha256(file.read()).hexdigest() == name, f"{what}: {name} is not whole"
    for number in {int(number) for number in told} - {REMOVED}:
        assert hashlib.sha256(blob(number)).hexdigest() in there, f"{what}: {number} was acknowledged"
    store.close()
    assert set(holds(folder / "blobs" / "tmp")) <= {".lock"}, f"{what}: unfinished files are left"
