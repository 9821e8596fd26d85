"""Environments, cut at each operation of their making, renewing and removal: what is found works, the rest is made.

``--rounds`` is the share of all moments in percent: 100 tries every one.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from faults.cuts import Cutter, moments
from faults.power import holds
from faults.workloads import ENVIRONMENTS, PAYLOAD, environment_cache
from windlassd.doctor import environments as doctor
from windlassd.doctor.patient import Patient
from windlassd.envs import _layout, cache
from windlassd.envs.base import Ready

EXAMINED = (doctor.broken, doctor.unfinished, doctor.notes)


@pytest.fixture
def cutter(tmp_path: Path) -> Iterator[Cutter]:
    template = tmp_path / "template"  # whose folders have been there for long
    _layout.Layout(str(template / "environments"))
    (template / "ws").mkdir()
    made = Cutter(tmp_path, "environments", template)
    yield made
    made.close()


@pytest.mark.faults
def test_killed_at_any_operation(cutter: Cutter, chance: random.Random, rounds: Callable[[int], range]) -> None:
    for number, when, torn in moments(chance, cutter.operations(), min(1.0, len(rounds(5)) / 100)):
        told = cutter.killed_at(number, when, torn)
        what = f"killed at {number}, {when}, {torn}"
        _assert_used(cutter.at, told, what)
        _check(cutter.at, told, what)


@pytest.mark.faults
def test_power_lost_at_any_operation(
    cutter: Cutter, chance: random.Random, rounds: Callable[[int], range], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = cutter.powerless()
    for module in (_layout, cache):
        monkeypatch.setattr(module, "boot_id", lambda: "the next")
    for what, told, folder in recorded.cuts(chance, min(1.0, len(rounds(5)) / 100), tries=3):
        _check(folder, _on_disk(told), what)


def _on_disk(told: Sequence[str]) -> Sequence[str]:
    """What must outlive a power loss: that what was settled is there until it is removed."""
    if "settled" not in told:
        return ()
    return [line for number, line in enumerate(told) if number < told.index("settled") or not line.startswith("has")]


def _check(folder: Path, told: Sequence[str], what: str) -> None:
    """What was told ready is ready, unless it was to be removed; all can be made; then nothing is wrong or left."""
    what = f"{what}; acknowledged: {list(told)}; left: {holds(folder)}"
    found, _ = environment_cache(str(folder))
    for ready in filter(None, map(found.find, ENVIRONMENTS)):
        _assert_works(ready, what)
    if "prunes" not in told:
        assert _keys(told, "has") - _keys(told, "removes") <= {item.key for item in found.list()}, what
    for spec in ENVIRONMENTS:
        _assert_works(found.prepare(spec, lambda line: None), what)
    found.start()
    found.join()
    patient = Patient(workspace_dir=str(folder / "ws"), home=str(folder))
    assert [problem for examine in EXAMINED for problem in examine(patient)] == [], what
    assert holds(folder / "environments" / "building") == [], what
    found.close()


def _assert_used(folder: Path, told: Sequence[str], what: str) -> None:
    """No run that was told of its environment, and has not ended, loses it to one that tidies up."""
    if _keys(told, "removes"):
        return
    found, _ = environment_cache(str(folder))
    runs = [line.removeprefix("has ") for line in told if line.startswith("has")][:2]
    assert set(runs) <= set(found.shelf.prune(max_bytes=0, dry_run=True).in_use), what


def _keys(told: Sequence[str], word: str) -> set[str]:
    return {line.removeprefix(word + " ") for line in told if line.startswith(word + " ")}


def _assert_works(ready: Ready, what: str) -> None:
    assert ready.prefix
    assert (Path(ready.prefix) / "lib" / "payload").read_bytes() == b"x" * PAYLOAD, what
    code = "import sys; sys.path.insert(0, sys.argv[1]); import fake; sys.exit(not fake.made)"
    done = subprocess.run([ready.python, "-I", "-c", code, str(Path(ready.prefix) / "lib")], check=False)
    assert done.returncode == 0, what
