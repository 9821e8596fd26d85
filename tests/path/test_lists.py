"""Lists and comparisons of runs, as a client asks for them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from windlass import Experiment, Run
from windlass import Workspace as UserWorkspace
from windlass.errors import UserErrorException
from windlass.specs._codec import to_wire
from windlassd.testing.harness import Workspace


@pytest.fixture
def runs(shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.chdir(tmp_path)
    shared.client.get("/v1/server")
    made = []
    for loss in (0.25, math.nan, 4.0):
        run = Experiment(UserWorkspace.get("test"), "lists").start_logging(snapshot_directory=None)
        run.log("loss", loss)
        run.log_row("row", x=math.nan, loss=loss)
        run.complete()
        made.append(run)
    return made


def test_runs_are_found_by_metric_and_compared(runs: list[Run], shared: Workspace) -> None:
    small, _, large = (run.id for run in runs)

    def listed(*metrics: str) -> list[str]:
        found = shared.client.get("/v1/runs", experiment="lists", metric=list(metrics))["runs"]
        later = {"history": []}  # and checksums may have been computed meanwhile
        assert [to_wire(shared.get(r["id"])) | later | {"verified": r["verified"]} for r in found] == found
        return [run["id"] for run in found if run["id"] in (small, large)]

    assert listed("loss>0") == [large, small] and listed("loss>0", "max(loss)<1") == [small]
    with pytest.raises(UserErrorException, match="no filter by a metric"):
        listed("loss")
    compared = shared.client.get("/v1/compare", run=[large, small])
    assert [run["id"] for run in compared["runs"]] == [large, small]
    assert compared["metrics"][small]["loss"]["last"] == 0.25 and compared["metrics"][large]["row"]["count"] == 1
    with pytest.raises(UserErrorException, match="No run 'nope'"):
        shared.client.get("/v1/compare", run=[large, "nope"])
    with pytest.raises(UserErrorException, match="1 to 1000"):
        shared.client.get("/v1/compare")


def test_a_table_with_a_hole_in_it_is_read_as_it_was_logged(runs: list[Run]) -> None:
    row = runs[0].get_metrics("row")["row"]
    assert math.isnan(row["x"]) and row["loss"] == 0.25
