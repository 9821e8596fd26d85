"""What every store must do. A backend's tests are a subclass with the fixtures ``store`` and ``reopen``."""

# ruff: noqa: D102 - the names of the tests say it

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest

from windlass.errors import UserErrorException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.spool import FLOAT, INT, JSON, LOST, SERIES, Frame
from windlass.specs.status import RunStatus
from windlassd.store.base import Conflict, ModelRecord, Series, SeriesSummary, Store, StoreError, Writer

T = TypeVar("T")
NAN = float("nan")


def spec_of(experiment: str = "exp", **values: Any) -> RunSpec:
    """A RunSpec with what the tests do not care for filled in."""
    return RunSpec(experiment=experiment, script="train.py", snapshot_id="0" * 64, **values)


def named(*names: str) -> list[Frame]:
    """The frames that name series 0, 1, …"""
    return [Frame(SERIES, number, 0, None, {"name": name}) for number, name in enumerate(names)]


def point(series: int, time_us: int, value: Any, step: int | None = None) -> Frame:
    """A frame of the kind that a spool has for ``value``."""
    is_int = isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63
    kind = FLOAT if isinstance(value, float) else INT if is_int else JSON
    return Frame(kind, series, time_us, step, value)


def create(store: Store, run_id: str, now: float = 1.0, request_id: str | None = None, **values: Any) -> RunRecord:
    """A new run."""
    spec = spec_of(**values)
    made: Future[RunRecord] = store.write(lambda w: w.create_run(run_id, spec, now=now, request_id=request_id))
    return made.result(60)


def move(store: Store, run_id: str, *statuses: RunStatus, now: float = 2.0, reason: Reason | None = None) -> RunRecord:
    """The run after it went through ``statuses``, a second each."""
    for seconds, status in enumerate(statuses):
        store.write(partial(_move, run_id, status, now + seconds, reason)).result(60)
    return store.read(lambda r: r.get_run(run_id))


def _move(run_id: str, status: RunStatus, now: float, reason: Reason | None, writer: Writer) -> RunRecord:
    return writer.transition(run_id, status, now=now, reason=reason)


def append(store: Store, start: int, end: int, frames: Sequence[Frame], run_id: str = "r", spool: str = "a") -> int:
    """The offset that the store holds after the batch."""
    return store.write(lambda w: w.append(run_id, spool, start, end, frames)).result(60)


def one_series(store: Store, name: str = "loss", run_id: str = "r", points: int | None = None) -> Series:
    """The series of a run, as it reads now."""
    (found,) = store.read(lambda r: r.series(run_id, name, points))
    return found


def summary(store: Store, name: str = "loss", run_id: str = "r") -> SeriesSummary:
    """The summary of a series, as it reads now."""
    return {s.name: s for s in store.read(lambda r: r.series_of(run_id))}[name]


@contextmanager
def raises(kind: type[BaseException], *words: str) -> Iterator[None]:
    """Asserts that an error of ``kind`` is raised whose message has all ``words``."""
    with pytest.raises(kind) as caught:
        yield
    for word in words:
        assert word in str(caught.value)


class _Fixtures:
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """An empty store, closed afterwards. Subclasses give it."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self, store: Store) -> Callable[[], Store]:
        """A function that closes the store and opens it again, as a restarted server does. Subclasses give it."""
        raise NotImplementedError


class WriteConformance(_Fixtures):
    """Writes, reads and their failures."""

    def test_a_write_returns_what_its_work_returns_and_reads_see_it(self, store: Store) -> None:
        assert store.write(lambda w: w.set_meta("name", "ws") or 7).result(60) == 7  # type: ignore[func-returns-value]
        assert store.read(lambda r: r.get_meta("name")) == "ws"

    def test_a_failing_work_is_undone_alone(self, store: Store) -> None:
        def fails(writer: Writer) -> None:
            writer.set_meta("half", "done")
            raise LookupError("mine")

        futures: list[Future[Any]] = []
        for number in range(20):
            futures.append(store.write(lambda w, n=number: w.set_meta(f"key{n}", "kept")))  # type: ignore[misc]
            futures.append(store.write(fails))
        for future in futures[::2]:
            future.result(60)
        for future in futures[1::2]:
            with raises(LookupError, "mine"):
                future.result(60)
        assert store.read(lambda r: [r.get_meta(f"key{n}") for n in range(20)]) == ["kept"] * 20
        assert store.read(lambda r: r.get_meta("half")) is None

    def test_works_run_in_order_and_see_what_they_wrote(self, store: Store) -> None:
        def count_up(writer: Writer) -> int:
            value = int(writer.get_meta("n") or 0) + 1
            writer.set_meta("n", str(value))
            return int(writer.get_meta("n") or 0)

        futures = [store.write(count_up) for _ in range(200)]
        assert [future.result(60) for future in futures] == list(range(1, 201))

    def test_a_canceled_write_is_not_done(self, store: Store) -> None:
        seen = []

        def busy(writer: Writer) -> None:
            canceled = store.write(lambda w: w.set_meta("no", "never"))
            seen.append(canceled.cancel())

        store.write(busy).result(60)
        store.write(lambda w: None).result(60)
        assert seen == [True]
        assert store.read(lambda r: r.get_meta("no")) is None

    def test_reading_does_not_wait_for_a_write_and_does_not_see_half_of_it(self, store: Store) -> None:
        def slow(writer: Writer) -> str | None:
            writer.set_meta("half", "done")
            return store.read(lambda r: r.get_meta("half"))

        assert store.write(slow).result(60) is None
        assert store.read(lambda r: r.get_meta("half")) == "done"

    def test_all_is_there_after_reopening(self, store: Store, reopen: Callable[[], Store]) -> None:
        create(store, "r", tags={"a": "b"})
        append(store, 0, 10, [*named("loss"), point(0, 1, 0.5)])
        store = reopen()
        assert store.read(lambda r: r.get_run("r")).tags == {"a": "b"}
        assert one_series(store).values == [0.5]

    def test_a_closed_store_says_so(self, store: Store) -> None:
        before = store.write(lambda w: w.set_meta("last", "one"))
        store.close()
        assert before.done()
        with raises(StoreError, "closed"):
            store.write(lambda w: None)


class RunConformance(_Fixtures):
    """Runs: made, moved, changed, found, listed."""

    def test_a_new_run_is_found_as_it_was_made(self, store: Store) -> None:
        spec = spec_of(
            "exp ä", arguments=("--lr", "0.1"), environment=EnvironmentSpec(pip_packages=("numpy",)), tags={"k": "v"},
            properties={"p": "q"}, display_name="first", git={"commit": "abc"}, max_run_duration_s=60,
        )  # fmt: skip
        made = store.write(lambda w: w.create_run("r", spec, now=12.25, request_id="q1")).result(60)
        assert made == store.read(lambda r: r.get_run("r"))
        assert (made.spec, made.status, made.number, made.created) == (spec, RunStatus.NOT_STARTED, 1, 12.25)
        assert (made.tags, made.properties, made.display_name) == ({"k": "v"}, {"p": "q"}, "first")
        assert store.read(lambda r: r.run_of_request("q1")) == made
        assert store.read(lambda r: r.run_of_request("q2")) is None

    def test_a_run_of_the_same_id_or_request_is_a_conflict(self, store: Store) -> None:
        create(store, "r", request_id="q")
        with raises(Conflict, "'r'"):
            create(store, "r")
        with raises(Conflict, "'q'"):
            create(store, "other", request_id="q")
        assert [run.id for run in store.read(lambda r: r.list_runs())] == ["r"]
        assert create(store, "next").number == 2

    def test_numbers_count_by_experiment(self, store: Store) -> None:
        numbers = [create(store, f"r{n}", now=float(n), experiment="ab"[n % 2]).number for n in range(5)]
        assert numbers == [1, 1, 2, 2, 3]
        assert store.read(lambda r: r.count_runs()) == {
            "a": {"runs": 3, "created": 0.0, "last": 4.0, "tags": {}, "archived": None},
            "b": {"runs": 2, "created": 1.0, "last": 3.0, "tags": {}, "archived": None},
        }

    def test_an_absent_run_is_named(self, store: Store) -> None:
        assert store.read(lambda r: r.find_run("nope")) is None
        for call in (
            lambda w: w.get_run("nope"),
            lambda w: w.transition("nope", RunStatus.QUEUED, now=1.0),
            lambda w: w.update_run("nope", exit_code=1),
            lambda w: w.tag("nope", {}),
            lambda w: w.add_properties("nope", {}),
            lambda w: w.append("nope", "a", 0, 1, []),
            lambda w: w.keep_files("nope", []),
            lambda w: w.drop_files("nope"),
            lambda w: w.list_runs(before="nope"),
        ):
            with raises(UserErrorException, "'nope'"):
                store.write(call).result(60)

    def test_a_run_goes_through_its_life(self, store: Store) -> None:
        create(store, "r", now=1.0)
        why = Reason("waits", "Waits for a node.")
        move(store, "r", RunStatus.PREPARING, now=2.0)
        queued = move(store, "r", RunStatus.QUEUED, now=3.0, reason=why)
        assert (queued.reason, queued.started) == (why, None)
        running = move(store, "r", RunStatus.RUNNING, now=4.0)
        assert (running.started, running.ended, running.reason) == (4.0, None, None)
        move(store, "r", RunStatus.NOT_RESPONDING, RunStatus.RUNNING, now=5.0)
        done = move(store, "r", RunStatus.COMPLETED, now=7.0)
        assert (done.started, done.ended) == (4.0, 7.0)
        assert replace(store.read(lambda r: r.get_run("r", history=True)), history=()) == done
        history = store.read(lambda r: r.get_run("r", history=True)).history
        assert [(entry["time"], entry["status"]) for entry in history] == [
            (1.0, "NotStarted"), (2.0, "Preparing"), (3.0, "Queued"), (4.0, "Running"), (5.0, "NotResponding"),
            (6.0, "Running"), (7.0, "Completed"),
        ]  # fmt: skip
        assert history[2]["reason"] == {"code": "waits", "message": "Waits for a node."}
        assert history[3]["reason"] is None

    def test_the_history_never_goes_back_in_time(self, store: Store) -> None:
        create(store, "r", now=100.0)
        for status, now in ((RunStatus.RUNNING, 40.0), (RunStatus.FINALIZING, 160.0), (RunStatus.COMPLETED, 70.0)):
            store.write(lambda w, s=status, n=now: w.transition("r", s, now=n)).result(60)  # type: ignore[misc]
        run = store.read(lambda r: r.get_run("r", history=True))
        assert [entry["time"] for entry in run.history] == [100.0, 100.0, 160.0, 160.0]
        assert (run.created, run.started, run.ended) == (100.0, 100.0, 160.0)

    def test_a_transition_that_is_not_allowed_says_what_is(self, store: Store) -> None:
        create(store, "r")
        move(store, "r", RunStatus.RUNNING, RunStatus.FINALIZING)
        with raises(Conflict, "'r'", "Finalizing", "Queued", "Completed, Failed"):
            move(store, "r", RunStatus.QUEUED)
        move(store, "r", RunStatus.FAILED)
        with raises(Conflict, "final"):
            move(store, "r", RunStatus.RUNNING)
        assert store.read(lambda r: r.get_run("r")).status is RunStatus.FAILED

    def test_the_same_status_again_only_changes_the_reason(self, store: Store) -> None:
        create(store, "r")
        for place in (3, 2):
            move(store, "r", RunStatus.QUEUED, now=9.0, reason=Reason("in_line", f"{place} in line."))
        move(store, "r", RunStatus.QUEUED)
        assert store.read(lambda r: r.get_run("r")).reason == Reason("in_line", "2 in line.")
        move(store, "r", RunStatus.QUEUED, now=11.0, reason=Reason("no_node", "No node is free."))
        history = store.read(lambda r: r.get_run("r", history=True)).history
        assert [(e["time"], (e["reason"] or {}).get("code")) for e in history[1:]] == [
            (9.0, "in_line"),
            (11.0, "no_node"),
        ]

    def test_columns_are_set(self, store: Store) -> None:
        create(store, "r")
        changes = {
            "display_name": "n", "environment": {"key": "k", "cached": True}, "nodes": ("n0", "n1"), "exit_code": 3,
            "exit_signal": "SIGKILL", "lost_points": 5, "verified": True,
        }  # fmt: skip
        changed = store.write(lambda w: w.update_run("r", **changes)).result(60)
        assert {name: getattr(changed, name) for name in changes} == changes
        assert store.read(lambda r: r.get_run("r")) == changed
        with raises(UserErrorException, "status", "display_name"):
            store.write(lambda w: w.update_run("r", status="Running")).result(60)

    def test_tags_come_and_go(self, store: Store) -> None:
        create(store, "r", tags={"a": "1", "b": "2"})
        store.write(lambda w: w.tag("r", {"a": "9", "c": "3"}, remove=["b", "absent"])).result(60)
        assert store.read(lambda r: r.get_run("r")).tags == {"a": "9", "c": "3"}
        assert len(store.read(lambda r: r.list_runs(tags=[("a", "9")]))) == 1
        assert store.read(lambda r: r.list_runs(tags=[("a", "1")])) == ()
        assert store.read(lambda r: r.list_runs(tags=[("b", None)])) == ()

    def test_properties_never_change(self, store: Store) -> None:
        create(store, "r", properties={"a": "1"})
        store.write(lambda w: w.add_properties("r", {"a": "1", "b": "2"})).result(60)
        with raises(Conflict, "'a'", "'1'", "'5'"):
            store.write(lambda w: w.add_properties("r", {"c": "3", "a": "5"})).result(60)
        assert store.read(lambda r: r.get_run("r")).properties == {"a": "1", "b": "2"}

    def test_half_a_character_from_json_does_no_harm(self, store: Store) -> None:
        create(store, "r", tags={"bad \ud800": "\udfff"})
        append(store, 0, 1, [*named("lo\ud800ss"), point(0, 1, "te\ud800xt")])
        assert len(store.read(lambda r: r.series("r"))) == 1


class SeriesConformance(_Fixtures):
    """Metric points: taken once, kept whole, read in order."""

    def test_points_are_read_as_they_were_logged(self, store: Store) -> None:
        create(store, "r")
        values = [0.1, NAN, math.inf, -math.inf, -0.0, 5e-324]
        points = [point(0, 1_000_000 + n, value, step=n) for n, value in enumerate(values)]
        append(store, 0, 99, [*named("loss"), *points])
        found = one_series(store)
        assert (found.type, found.count, list(found.steps)) == ("float", 6, [0, 1, 2, 3, 4, 5])
        assert repr(list(found.values)) == repr(values)
        assert found.times[1] == 1.000001

    def test_a_summary_tells_the_series(self, store: Store) -> None:
        create(store, "r")
        append(store, 0, 1, [*named("loss", "empty"), point(0, 1, 2.5, 7), point(0, 2, NAN), point(0, 3, -1.0, 9)])
        append(store, 1, 2, [point(0, 4, 8.0)])
        assert store.read(lambda r: r.series_of("r")) == (SeriesSummary("loss", "float", 4, 8.0, None, -1.0, 8.0),)
        create(store, "nan")
        append(store, 0, 1, [*named("loss"), point(0, 1, NAN)], run_id="nan")
        only_nan = summary(store, run_id="nan")
        assert (only_nan.minimum, only_nan.maximum, math.isnan(only_nan.last)) == (None, None, True)

    def test_a_repeated_early_or_overlapping_batch_counts_once(self, store: Store) -> None:
        create(store, "r")
        first = [*named("loss"), point(0, 1, 1.0)]
        assert append(store, 0, 50, first) == 50
        assert append(store, 0, 50, first) == 50
        assert append(store, 0, 80, [*first, point(0, 2, 2.0)]) == 50
        assert append(store, 25, 80, [point(0, 2, 2.0)]) == 50
        assert append(store, 90, 99, [point(0, 9, 9.0)]) == 50
        assert append(store, 50, 50, []) == 50
        assert append(store, 50, 80, [point(0, 2, 2.0)]) == 80
        assert append(store, 10, 20, [point(0, 1, 1.0)], spool="b") == 0
        assert one_series(store).values == [1.0, 2.0]
        held = store.read(lambda r: (r.acked("r", "a"), r.acked("r", "b"), r.acked("x", "a")))
        assert held == (80, 0, 0)

    def test_a_batch_that_fails_leaves_no_trace(self, store: Store) -> None:
        create(store, "r")
        with raises(UserErrorException, "'a'", "number 5"):
            append(store, 0, 9, [*named("loss"), point(0, 1, 1.0), Frame(LOST, 0, 0, None, 3), point(5, 1, 1.0)])
        assert store.read(lambda r: (r.acked("r", "a"), r.series_of("r"), r.get_run("r").lost_points)) == (0, (), 0)

    def test_numbers_of_series_outlive_the_server(self, store: Store, reopen: Callable[[], Store]) -> None:
        create(store, "r")
        append(store, 0, 1, [*named("x", "loss"), point(0, 1, 1)])
        append(store, 0, 1, [*named("loss"), point(0, 1, 5.0)], spool="b")
        store = reopen()
        append(store, 1, 2, [point(1, 2, 7.0)])
        assert one_series(store).values == [5.0, 7.0]

    def test_lost_points_add_up(self, store: Store) -> None:
        create(store, "r")
        append(store, 0, 1, [Frame(LOST, 0, 0, None, 3)])
        append(store, 1, 2, [Frame(LOST, 0, 0, None, 4)])
        assert store.read(lambda r: r.get_run("r")).lost_points == 7

    def test_processes_are_merged_by_time_and_keep_their_own_order(self, store: Store) -> None:
        create(store, "r")
        append(
            store, 0, 1, [*named("loss"), *(point(0, t, v) for t, v in [(10, 1.0), (30, 2.0), (20, 3.0), (50, 4.0)])]
        )
        append(
            store,
            0,
            1,
            [*named("x", "loss"), *(point(1, t, v, 1) for t, v in [(5, 0.0), (25, 1.5), (40, 3.5)])],
            spool="b",
        )
        found = one_series(store)
        assert found.values == [0.0, 1.0, 1.5, 2.0, 3.0, 3.5, 4.0]
        assert list(found.steps) == [1, None, 1, None, None, 1, None]
        assert summary(store).last == 4.0

    @pytest.mark.parametrize(
        ("values", "kind", "shown"),
        [
            ([1, 2], "int", [1, 2]),
            ([1, 2.5], "float", [1.0, 2.5]),
            ([(1 << 62) + 1, 0.5], "float", [(1 << 62) + 1, 0.5]),
            ([1, "a", None, True, 0.5], "json", [1, "a", None, True, 0.5]),
            ([1 << 70, 1], "json", [1 << 70, 1]),
            ([[1.5, NAN], {"a": math.inf}], "json", [[1.5, NAN], {"a": math.inf}]),
        ],
    )
    @pytest.mark.parametrize("batches", [1, 2, 99])
    def test_mixed_kinds_widen_and_lose_nothing(
        self, store: Store, values: list[Any], kind: str, shown: list[Any], batches: int
    ) -> None:
        create(store, "r")
        append(store, 0, 1, named("loss"))
        if batches == 1:
            append(store, 1, 2, [point(0, n, value) for n, value in enumerate(values)])
        else:
            for n in range(batches):
                append(store, n + 1, n + 2, [point(0, n, values[n % len(values)])])
            values = [values[n % len(values)] for n in range(batches)]
            shown = [shown[n % len(shown)] for n in range(batches)]
            kind = kind if batches > 2 else _widest(values)
        found = one_series(store)
        assert (found.type, summary(store).type) == (kind, kind)
        assert repr([float(v) if kind == "float" and v in (1, 2) else v for v in shown]) == repr(list(found.values))
        assert repr(summary(store).last) == repr(found.values[-1])
        if kind == "json":
            assert summary(store).minimum is summary(store).maximum is None

    def test_thousands_of_batches_read_as_one_series(self, store: Store) -> None:
        create(store, "r")
        append(store, 0, 1, named("loss", "other"))
        count = 0
        for batch in range(300):
            frames = [point(0, count + n, float(count + n), step=count + n) for n in range(40)]
            append(store, batch + 1, batch + 2, [*frames, point(1, batch, batch)])
            count += 40
        found = one_series(store)
        assert found.values == [float(n) for n in range(count)]
        assert found.steps == list(range(count))
        assert one_series(store, "other").values == list(range(300))
        assert summary(store).count == found.count == count

    def test_a_chart_gets_few_points_and_no_spike_is_hidden(self, store: Store) -> None:
        create(store, "r")
        values = [math.sin(n / 100) for n in range(20_000)]
        values[7_001], values[12_345], values[15_000], values[19_000] = 50.0, -50.0, NAN, math.inf
        append(store, 0, 1, [*named("loss", "text"), *(point(0, n, v, n) for n, v in enumerate(values))])
        append(store, 1, 2, [point(1, n, str(n)) for n in range(1_000)])
        thin = one_series(store, points=500)
        assert thin.count == 20_000
        assert 250 <= len(thin.values) == len(thin.times) == len(thin.steps) <= 500
        assert {50.0, -50.0, math.inf} <= set(thin.values)
        assert sum(map(math.isnan, thin.values)) == 1
        assert list(thin.steps) == sorted(thin.steps)  # type: ignore[type-var]
        assert (thin.steps[0], thin.steps[-1]) == (0, 19_999)
        assert all(repr(values[step or 0]) == repr(value) for step, value in zip(thin.steps, thin.values, strict=True))
        assert len(one_series(store, "text", points=10).values) == 1_000

    def test_a_chart_of_a_long_series_hides_nothing_either(self, store: Store) -> None:
        create(store, "r")
        append(store, 0, 1, named("loss", "whole"))
        append(store, 0, 1, named("loss"), spool="b")
        count, spikes = 30_000, {1: 9.0, 4_095: -9.0, 9_999: NAN, 17_000: math.inf, 29_998: -math.inf}
        for place in range(0, count, 600):
            part = range(place, place + 600)
            append(store, place + 1, place + 601, [point(0, n, spikes.get(n, n / count), n) for n in part])
        other = [point(0, n, 0.5 if n != 7_777 else 7.0, n) for n in range(10_000)]
        append(store, 1, 2, other, spool="b")  # one batch that is a chunk by itself
        append(store, 2, 3, [point(0, 20_000, 5, 20_000)], spool="b")
        append(store, count + 1, count + 2, [point(1, n, n) for n in range(200)])
        for points in (10, 100, 200):
            thin = one_series(store, points=points)
            assert thin.count == 40_001
            assert len(thin.values) == len(thin.times) == len(thin.steps) <= points
            assert {math.inf, -math.inf} <= set(thin.values) and sum(map(math.isnan, thin.values)) == 1
            assert points == 10 or {9.0, -9.0, 7.0, 5.0} <= set(thin.values)
            assert list(thin.times) == sorted(thin.times)
            assert (thin.times[0], thin.times[-1]) == (0, (count - 1) / 1e6)
        assert len(one_series(store, "whole", points=200).values) == 200
        assert len(one_series(store).values) == 40_001, "all of them are still there"

    def test_series_are_told_apart(self, store: Store) -> None:
        create(store, "r")
        create(store, "s")
        append(store, 0, 1, [*named("b", "a"), point(1, 1, 1), point(0, 2, 2)])
        append(store, 0, 1, [*named("a"), point(0, 1, 9)], run_id="s")
        assert [(s.name, list(s.values)) for s in store.read(lambda r: r.series("r"))] == [("b", [2]), ("a", [1])]
        assert store.read(lambda r: r.series("r", "absent")) == ()
        assert [s.name for s in store.read(lambda r: r.series_of("s"))] == ["a"]


class RecordConformance(_Fixtures):
    """Files, snapshots, clusters, models."""

    def test_kept_files_replace_those_of_equal_path(self, store: Store) -> None:
        create(store, "r")
        store.write(
            lambda w: w.keep_files("r", [{"path": "b", "size": 1}, {"path": "a", "size": 2, "sha256": "x"}])
        ).result(60)
        store.write(lambda w: w.keep_files("r", [{"path": "b", "size": 3, "sha256": "y"}])).result(60)
        assert store.read(lambda r: r.files_of("r")) == (
            {"path": "a", "size": 2, "sha256": "x"},
            {"path": "b", "size": 3, "sha256": "y"},
        )
        assert store.read(lambda r: r.find_file("r", "b")) == {"path": "b", "size": 3, "sha256": "y"}
        assert store.read(lambda r: (r.find_file("r", "c"), r.find_file("x", "b"))) == (None, None)
        create(store, "s")
        store.write(lambda w: w.keep_files("s", [{"path": "b", "size": 1}])).result(60)
        store.write(lambda w: w.drop_files("r")).result(60)
        assert store.read(lambda r: (len(r.files_of("r")), len(r.files_of("s")))) == (0, 1)

    def test_a_snapshot_is_kept_once(self, store: Store) -> None:
        files = [{"path": "a.py", "sha256": "0" * 64, "size": 3, "mode": 0o644}]
        assert store.read(lambda r: r.find_snapshot("s")) is None
        for now in (1.0, 2.0):
            store.write(lambda w, t=now: w.add_snapshot("s", files, t)).result(60)  # type: ignore[misc]
        found = store.read(lambda r: r.find_snapshot("s"))
        assert found is not None
        assert list(found) == files

    def test_clusters_are_made_changed_and_forgotten(self, store: Store) -> None:
        spec = ClusterSpec("gpu", vm_size="STANDARD_NC6", max_nodes=4, tags={"a": "b"})
        store.write(lambda w: w.put_cluster(spec, 5.0)).result(60)
        store.write(lambda w: w.put_cluster(replace(spec, max_nodes=2), 6.5)).result(60)
        store.write(lambda w: w.put_cluster(ClusterSpec("cpu"), 7.0)).result(60)
        assert store.read(lambda r: r.find_cluster("gpu")) == (replace(spec, max_nodes=2), 5.0, 6.5)
        assert [found.name for found, _, _ in store.read(lambda r: r.clusters())] == ["cpu", "gpu"]
        store.write(lambda w: w.delete_cluster("gpu")).result(60)
        assert store.read(lambda r: r.find_cluster("gpu")) is None

    def test_models_count_their_versions(self, store: Store) -> None:
        full = ModelRecord(
            "digits", 0, 3.5, run_id="r", path="outputs/m", tags={"a": "b"}, properties={"c": "d"}, description="text",
            framework="ScikitLearn", framework_version="1.5", size=9, sha256="e" * 64, snapshot_id="s",
            environment_key="k", files=({"path": "m.pkl", "size": 9, "sha256": "e" * 64},),
        )  # fmt: skip
        first = store.write(lambda w: w.add_model(full)).result(60)
        assert first == replace(full, version=1) == store.read(lambda r: r.find_model("digits", 1))
        second = store.write(lambda w: w.add_model(ModelRecord("digits", 0, 4.0))).result(60)
        other = store.write(lambda w: w.add_model(ModelRecord("other", 0, 5.0, run_id="r"))).result(60)
        assert (second.version, other.version) == (2, 1)
        assert store.read(lambda r: r.find_model("digits")) == second
        assert store.read(lambda r: (r.find_model("digits", 3), r.find_model("nope"))) == (None, None)
        assert store.read(lambda r: (r.models(), r.models("digits"), r.models(run_id="r"))) == (
            (other, second, first),
            (second, first),
            (other, first),
        )


class StoreConformance(WriteConformance, RunConformance, SeriesConformance, RecordConformance):
    """All of it: what a backend's test class derives from."""


def _widest(values: Sequence[Any]) -> str:
    kinds = {point(0, 0, value).kind for value in values}
    return "json" if JSON in kinds else "float" if FLOAT in kinds else "int"
