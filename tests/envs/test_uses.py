from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from windlassd.envs._uses import Use, Uses

KEY, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspaces" / "one"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def uses(tmp_path: Path) -> Uses:
    return Uses(str(tmp_path))


def test_a_run_uses_one_environment_until_it_is_released(uses: Uses, workspace: Path, tmp_path: Path) -> None:
    run = Use(str(workspace), "exp_1_ab")
    uses.add(KEY, run)
    uses.add(KEY, run)
    assert Uses(str(tmp_path)).of(KEY) == [run], "another server sees it"
    uses.add(OTHER, run)
    assert (uses.of(KEY), uses.of(OTHER)) == ([], [run])
    uses.remove(run)
    uses.remove(run)
    assert uses.by_key() == {}


def test_a_server_that_starts_forgets_the_runs_that_ended_without_one(uses: Uses, workspace: Path) -> None:
    other = workspace.parent / "two"
    other.mkdir()
    ended, going, elsewhere = Use(str(workspace), "r_1"), Use(str(workspace), "r_2"), Use(str(other), "r_1")
    for use in (ended, going, elsewhere):
        uses.add(KEY, use)
    uses.keep_only(str(workspace), lambda: {"r_2"})
    assert set(uses.of(KEY)) == {going, elsewhere}


def test_who_comes_while_the_ended_are_looked_for_stays(uses: Uses, workspace: Path) -> None:
    uses.add(KEY, Use(str(workspace), "r_1"))
    late = Use(str(workspace), "r_2")

    def active() -> set[str]:
        uses.add(KEY, late)
        return set()  # read a moment before the late one was recorded

    uses.keep_only(str(workspace), active)
    assert uses.of(KEY) == [late]


def test_the_runs_of_a_workspace_that_is_gone_use_nothing(uses: Uses, workspace: Path) -> None:
    uses.add(KEY, Use(str(workspace), "r_1"))
    shutil.rmtree(workspace)
    assert uses.of(KEY) == []
    workspace.mkdir()
    assert uses.of(KEY) == []
    uses.add(KEY, Use(str(workspace), "r_2"))
    assert [use.run_id for use in uses.of(KEY)] == ["r_2"]


def test_runs_with_long_ids_are_told_apart(uses: Uses, workspace: Path) -> None:
    runs = [Use(str(workspace), "x" * 300 + end) for end in ("1", "2")]
    for run in runs:
        uses.add(KEY, run)
    assert len(uses.of(KEY)) == 2
    uses.keep_only(str(workspace), lambda: {runs[0].run_id})
    assert len(uses.of(KEY)) == 1
    uses.remove(runs[0])
    assert uses.of(KEY) == []
