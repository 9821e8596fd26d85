from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.server.web import contexts
from windlassd.server.web.contexts import RunFilters


def record(status: RunStatus = RunStatus.RUNNING, **values: object) -> RunRecord:
    run = RunRecord(id="e_1_0", experiment="e", number=3, status=status, spec=RunSpec("e", "t.py", "s"), created=10.0)
    return replace(run, **values)  # type: ignore[arg-type]


def entry(time: float, status: str, message: str | None = None) -> dict[str, object]:
    return {"time": time, "status": status, "reason": {"code": "c", "message": message} if message else None}


def test_phases_are_the_stretches_between_changes_of_status() -> None:
    history = (
        entry(10, "NotStarted"),
        entry(11, "Queued", "2nd in line"),
        entry(13, "Queued", "1st"),
        entry(15, "Running"),
    )
    found = contexts.phases(record(history=history), now=20)
    assert [(p.status.value, p.began, p.ended, p.message) for p in found] == [
        ("NotStarted", 10, 11, None),
        ("Queued", 11, 15, "1st"),
        ("Running", 15, None, None),
    ]
    assert [(p.start, p.width) for p in found] == [(0, 100), (100, 400), (500, 500)]


def test_a_final_status_ends_the_phases() -> None:
    history = (entry(10, "NotStarted"), entry(12, "Running"), entry(14, "Completed"))
    found = contexts.phases(record(RunStatus.COMPLETED, history=history, ended=14.0), now=99)
    assert [(p.status.value, p.ended) for p in found] == [("NotStarted", 12), ("Running", 14)]
    assert sum(p.width for p in found) == 1000


def test_a_run_that_ends_at_once_has_phases_too() -> None:
    assert contexts.phases(record(history=(entry(10, "Failed"),), ended=10.0), now=10) == ()
    assert contexts.phases(record(), now=10) == ()


def test_filters_come_back_from_their_address() -> None:
    filters = RunFilters("a b&c", (RunStatus.FAILED, RunStatus.CANCELED), (("k", "v=1"), ("only", None)))
    assert filters.query == "experiment=a+b%26c&status=Failed&status=Canceled&tag=k%3Dv%3D1&tag=only"


def test_run_addresses_are_safe() -> None:
    assert contexts.run_url("a/../b?c", "files", "x y/#1.txt") == "/runs/a%2F..%2Fb%3Fc/files/x%20y/%231.txt"


def test_a_cluster_shows_who_has_its_nodes_and_who_waits_in_the_order_of_the_line() -> None:
    line = [record(RunStatus.QUEUED, id="urgent", reason=Reason("w", "1st in line")), record(id="usual")]
    under_way = [
        record(RunStatus.RUNNING, id="elsewhere", spec=RunSpec("e", "t.py", "s", target="other")),
        record(RunStatus.PREPARING, id="building"),
        record(RunStatus.QUEUED, id="starting", nodes=("local-1",)),
        record(RunStatus.RUNNING, id="busy"),
    ]
    compute = {
        "spec": ClusterSpec("local", max_nodes=200, vm_priority="lowpriority"), "trouble": "no route",
        "capacity": {"target": 9, "current": 9, "idle": 5, "busy": 2, "preparing": 1, "leaving": 0, "unusable": 1},
    }  # fmt: skip
    nodes = [{"name": "n0", "status": "running", "run_id": "busy", "address": "10.0.0.1", "gpus": [0, 1],
              "message": ""}] + [{"name": f"n{n}", "status": "idle", "run_id": None} for n in range(149)]  # fmt: skip
    row = contexts.cluster_row(compute, nodes, line, 12, under_way)
    assert [run.id for run in row.waiting] == ["urgent", "usual"] and row.waiting_left == 10
    assert [run.id for run in row.running] == ["busy", "starting"]
    assert [run.id for run in row.preparing] == ["building"]
    assert row.others == (("preparing", "1"), ("unusable", "1"))
    assert (row.trouble, row.priority) == ("no route", "lowpriority")
    assert (len(row.nodes), row.nodes_left) == (contexts.MOST_NODES, 50)
    first = row.nodes[0]
    assert (first.state, first.address, first.gpus) == ("running", "10.0.0.1", (0, 1))
    assert first.run == contexts.Link("busy", "/runs/busy") and row.nodes[1].run is None


def test_contexts_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        contexts.run_row(record()).id = "x"  # type: ignore[misc]
