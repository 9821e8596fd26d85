"""What every store must do with lists of runs: filter them, page them, send them, keep children apart.

A store's test subclasses it beside ``store_suite``, with the same fixture ``store``.
"""

# ruff: noqa: D102 - the names of the tests say it

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from windlass.errors import UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.run import Reason
from windlass.specs.status import RunStatus
from windlassd.store.base import MetricFilter, Store
from windlassd.testing.store_suite import NAN, append, create, move, named, point


class ListConformance:
    """Lists of runs."""

    def test_lists_filter_page_and_sort(self, store: Store) -> None:
        for n in range(12):
            create(store, f"r{n}", experiment="ab"[n % 2], tags={"n": str(n % 3), "x": ""})
        move(store, "r1", RunStatus.RUNNING)
        move(store, "r3", RunStatus.RUNNING, RunStatus.FAILED)
        move(store, "r4", RunStatus.QUEUED)

        def listed(**filters: Any) -> str:
            return " ".join(run.id[1:] for run in store.read(lambda r: r.list_runs(**filters)))

        assert listed() == "11 10 9 8 7 6 5 4 3 2 1 0"
        assert listed(limit=2) == "11 10"
        assert listed(limit=3, before="r10") == "9 8 7"
        assert listed(limit=0) == listed(before="r0") == listed(experiment="none") == ""
        assert listed(experiment="b", limit=2, before="r9") == "7 5"
        assert listed(statuses=[RunStatus.RUNNING]) == "1"
        assert listed(statuses=[RunStatus.FAILED, RunStatus.RUNNING, RunStatus.QUEUED]) == "4 3 1"
        assert listed(statuses=[RunStatus.FAILED, RunStatus.RUNNING, RunStatus.QUEUED], limit=2) == "4 3"
        assert listed(statuses=[RunStatus.NOT_STARTED, RunStatus.RUNNING], experiment="b", before="r7") == "5 1"
        assert listed(tags=[("n", "1")]) == "10 7 4 1"
        assert listed(tags=[("x", None), ("n", "1")], experiment="a", before="r10") == "4"
        assert listed(tags=[("n", "0"), ("n", "1")]) == ""
        assert listed(tags=[("n", None)], statuses=[RunStatus.FAILED, RunStatus.RUNNING], limit=1) == "3"
        assert [run.id for run in store.read(lambda r: r.active_runs())][:4] == ["r0", "r1", "r2", "r4"]
        assert store.read(lambda r: r.count_active()) == len(store.read(lambda r: r.active_runs())) == 11
        assert store.read(lambda r: r.active_runs(placed=True)) == ()
        for run_id in ("r1", "r3"):
            store.write(lambda w, run_id=run_id: w.update_run(run_id, nodes=["n"])).result()  # type: ignore[misc]
        assert [run.id for run in store.read(lambda r: r.active_runs(placed=True))] == ["r1"]

    def test_the_priority_of_a_run_may_change(self, store: Store) -> None:
        create(store, "r", tags={"a": "b"})
        changed = store.write(lambda w: w.prioritize("r", 7)).result()
        assert changed.spec.priority == 7 and changed == store.read(lambda r: r.get_run("r"))
        assert changed.spec == replace(changed.spec, priority=7) and changed.tags == {"a": "b"}

    def test_lists_filter_by_what_metrics_came_to(self, store: Store) -> None:
        values: list[list[Any]] = [[3.0, 1.0, 2.0], [9], [NAN], [math.inf], ["text"], [-1.0, NAN], [2]]
        for n, points in enumerate(values):
            create(store, f"r{n}", experiment="ab"[n % 2], tags={"n": str(n)} if n < 3 else {"n": "x"})
            append(store, 0, 1, [*named("m"), *(point(0, t, v) for t, v in enumerate(points))], run_id=f"r{n}")
        append(store, 0, 1, [*named("other"), point(0, 0, 7)], run_id="r6", spool="b")
        create(store, "child", parent_id="r0")
        append(store, 0, 1, [*named("m"), point(0, 0, 0.0)], run_id="child")
        move(store, "r6", RunStatus.RUNNING)

        def listed(*metrics: tuple[str, str, str, float], **filters: Any) -> str:
            wanted = [MetricFilter(*metric) for metric in metrics]
            return " ".join(run.id[1:] for run in store.read(lambda r: r.list_runs(metrics=wanted, **filters)))

        assert listed(("m", "last", ">=", 2.0)) == "6 3 1 0"
        assert listed(("m", "last", "<", 3)) == "6 0" and listed(("m", "last", "<", math.inf)) == "6 1 0"
        assert listed(("m", "last", "=", 2)) == "6 0" and listed(("m", "last", "!=", 2)) == "3 1"
        assert listed(("m", "min", "<=", 1)) == "5 0" and listed(("m", "max", ">", 2.5)) == "3 1 0"
        assert listed(("m", "last", "=", math.inf)) == "3" and listed(("none", "last", ">", 0)) == ""
        assert listed(("m", "last", ">", 0), ("other", "max", "=", 7)) == "6"
        assert listed(("m", "last", ">", 0), limit=2) == "6 3"
        assert listed(("m", "last", ">", 0), before="r3") == "1 0" and listed(("m", "last", ">", 0), limit=0) == ""
        assert listed(("m", "last", ">", 0), experiment="b") == "3 1"
        assert listed(("m", "last", ">", 0), statuses=[RunStatus.RUNNING, RunStatus.FAILED]) == "6"
        assert listed(("m", "last", ">", 0), tags=[("n", "x")]) == "6 3"
        assert listed(("m", "last", ">", 0), tags=[("n", None)], before="r3") == "1 0"
        assert (
            listed(("m", "last", "=", 0), include_children=True) == listed(("m", "max", "=", 0), parent="r0") == "hild"
        )

    def test_ids_are_found_by_their_beginning_or_last_part(self, store: Store) -> None:
        for run_id in ("exp_1_aa", "exp_1_ab", "exp_2_aa", "exq_aa_1", "100%_x"):
            create(store, run_id)

        def like(text: str, **more: int) -> Sequence[str]:
            return store.read(lambda r: r.run_ids_like(text, **more))

        assert like("exp_1") == ("exp_1_ab", "exp_1_aa") and like("aa") == ("exp_2_aa", "exp_1_aa")
        assert len(like("exp_", limit=2)) == 2
        assert like("") == like("%") == like("_x") == like("b") == () and like("100%_x") == ("100%_x",)

    def test_lists_that_are_sent_say_what_records_say(self, store: Store) -> None:
        create(store, "r0", tags={"a": 'quo"te', "ü": "\u2028"}, display_name="n\\ame", properties={"p": "\n"})
        move(store, "r0", RunStatus.RUNNING, RunStatus.FAILED, reason=Reason("c", 'because "ü"'), now=1e9 + 1 / 3)
        store.write(lambda w: w.update_run("r0", exit_signal="SIGKILL", environment={"seconds": 0.1}, lost_points=3))
        store.write(lambda w: w.update_run("r0", exit_code=-9, verified=True, description="d\U0001f600")).result()
        create(store, "r1", parent_id="r0", arguments=("--x", "1"))
        store.write(lambda w: w.update_run("r1", nodes=["local-0"])).result()
        whole: dict[str, Any] = {"include_children": True, "limit": 5}
        lines = store.read(lambda r: r.list_lines(**whole))
        assert [json.loads(line.text) for line in lines] == [
            to_wire(run) for run in store.read(lambda r: r.list_runs(**whole))
        ]
        assert [(line.id, line.status, line.placed) for line in lines] == [
            ("r1", "NotStarted", True),
            ("r0", "Failed", False),
        ]
        assert store.read(lambda r: r.list_lines(tags=[("a", None)], before="r1")) == lines[1:]
        assert store.read(lambda r: r.find_lines(["r0", "nope", "r1"])) == lines[::-1]

    def test_some_runs_are_found_at_once_with_their_summaries(self, store: Store) -> None:
        for n in range(3):
            create(store, f"r{n}", tags={"n": str(n)})
        append(store, 0, 1, [*named("a", "b"), point(0, 1, 1.5), point(1, 2, 2)], run_id="r0")
        append(store, 0, 1, [*named("a", "unused"), point(0, 1, 0.5)], run_id="r2")
        asked = ["r2", "nope", "r1", "r0", "r2"]
        assert [run.id for run in store.read(lambda r: r.find_runs(asked))] == ["r2", "r1", "r0"]
        assert store.read(lambda r: r.find_runs(["r1"])) == (store.read(lambda r: r.get_run("r1")),)
        assert store.read(lambda r: r.find_runs([])) == () and store.read(lambda r: r.series_of_runs([])) == {}
        found = store.read(lambda r: r.series_of_runs(asked))
        assert found == {run_id: store.read(lambda r, i=run_id: r.series_of(i)) for run_id in ("r0", "r2")}  # type: ignore[misc]

    def test_children_are_listed_apart(self, store: Store) -> None:
        create(store, "top")
        create(store, "other")
        for _ in range(2):
            create(store, store.write(lambda w: w.next_child_id("top")).result(), parent_id="top")
        create(store, "mine", parent_id="top")
        create(store, "top_0_0", parent_id="top_0")

        def listed(**filters: Any) -> list[str]:
            return [run.id for run in store.read(lambda r: r.list_runs(**filters))]

        assert listed() == ["other", "top"]
        assert listed(parent="top") == ["mine", "top_1", "top_0"] and listed(parent="other") == []
        assert listed(include_children=True, limit=2) == ["top_0_0", "mine"]
        assert store.read(lambda r: r.get_run("top_1")).parent_id == "top"
        create(store, "top_4", parent_id="top")
        assert store.write(lambda w: w.next_child_id("top")).result() == "top_5", "one that is taken is passed over"
        with pytest.raises(UserErrorException, match="nope"):
            store.write(lambda w: w.next_child_id("nope")).result()
