"""A workspace in memory behind the server's Backend contract, for tests of the routes and the pages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

from windlass.errors import UserErrorException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus, may_follow
from windlassd.server.backend import LocatedFile
from windlassd.store.base import DatasetRecord, MetricFilter, ModelRecord, SeriesSummary

Point = tuple[float, int | None, Any]


class FakeBackend:
    """Runs, logs, metrics and files that a test puts in; streams tell what it changes, from any thread.

    Args:
        folder: Where the runs' files are written.
        name: The workspace's name.
        keep_alive_s: Seconds without news after which a stream says that it is still there.
    """

    def __init__(self, folder: Path, *, name: str = "digits", keep_alive_s: float = 15.0) -> None:
        self._folder = folder
        self._name = name
        self._keep_alive_s = keep_alive_s
        self._lock = threading.RLock()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._runs: dict[str, RunRecord] = {}
        self._points: dict[str, dict[str, list[Point]]] = {}
        self._models: list[ModelRecord] = []
        self.known_datastores: list[Mapping[str, Any]] = []
        self.known_datasets: list[DatasetRecord] = []
        self._codes: dict[str, str] = {}
        self.compute_targets: list[Mapping[str, Any]] = []

    # What a test puts in.

    def add_run(self, run: RunRecord) -> RunRecord:
        """Put in a run, or replace the one of that id."""
        with self._change():
            self._runs[run.id] = run
            self._points.setdefault(run.id, {})
            (self._folder / run.id).mkdir(parents=True, exist_ok=True)
        return run

    def move(self, run_id: str, status: RunStatus, now: float, reason: Reason | None = None) -> RunRecord:
        """Change a run's status as the real backend would, with its history."""
        with self._change():
            run = self._runs[run_id]
            if status is not run.status and not may_follow(run.status, status):
                raise UserErrorException(f"{run_id} is {run.status}: it cannot become {status}.", error_code="conflict")
            entry = {"time": now, "status": status.value, "reason": to_wire(reason)}
            run = replace(
                run,
                status=status,
                reason=reason,
                history=(*run.history, entry),
                started=run.started or (now if status is RunStatus.RUNNING else None),
                ended=now if status.final else None,
            )
            self._runs[run_id] = run
        return run

    def log_metric(self, run_id: str, name: str, value: Any, time: float, step: int | None = None) -> None:
        """Add one point."""
        with self._change():
            self._points[run_id].setdefault(name, []).append((time, step, value))

    def write(self, run_id: str, path: str, content: bytes, *, append: bool = False) -> None:
        """Write or append to a file of a run; those under ``azureml-logs`` are its logs."""
        with self._change():
            target = self._folder / run_id / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab" if append else "wb") as f:
                f.write(content)

    def add_model(self, model: ModelRecord) -> None:
        """Put in a model version."""
        self._models.insert(0, model)

    def add_code(self, code: str, path: str = "/runs") -> str:
        """Make a login code that leads to ``path``."""
        self._codes[code] = path
        return code

    # What the routes ask.

    def workspace(self) -> Mapping[str, Any]:
        """The workspace."""
        return {"name": self._name, "subscription_id": None, "resource_group": None, "location": None, "created": 0.0}

    def experiments(self) -> Sequence[Mapping[str, Any]]:
        """Experiments with the number of their runs."""
        found: dict[str, dict[str, Any]] = {}
        for run in self._newest_first()[::-1]:
            entry = found.setdefault(
                run.experiment, {"name": run.experiment, "runs": 0, "created": run.created, "last": None}
            )
            entry["runs"] += 1
            entry["last"] = run.created
        return list(found.values())

    def computes(self) -> Sequence[Mapping[str, Any]]:
        """Compute targets as they were put in."""
        return list(self.compute_targets)

    def nodes(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Those that runs have, then as many idle ones as the target has."""
        runs = [run for run in self._newest_first() if run.spec.target == name and not run.status.final]
        held = [{"name": node, "status": "running", "run_id": run.id, "address": None, "gpus": (0,), "message": ""}
                for run in runs for node in run.nodes]  # fmt: skip
        compute = next(entry for entry in map(to_wire, self.compute_targets) if entry["spec"]["name"] == name)
        idle = [{"name": f"{name}-idle-{n}", "status": "idle", "run_id": None, "address": None, "gpus": (),
                 "message": ""} for n in range(compute["capacity"]["idle"])]  # fmt: skip
        return [*held, *idle]

    def queue(self, name: str, limit: int) -> Mapping[str, Any]:
        """Queued runs without nodes, the oldest first."""
        found = [run for run in reversed(self._newest_first()) if run.spec.target == name and not run.nodes
                 and run.status is RunStatus.QUEUED]  # fmt: skip
        waiting = [
            {"run_id": run.id, "place": place, "nodes": run.spec.node_count, "priority": run.spec.priority,
             "reason": run.reason.message if run.reason else ""} for place, run in enumerate(found, 1)
        ]  # fmt: skip
        return {"waiting": waiting[:limit], "length": len(waiting)}

    def list_runs(
        self,
        *,
        experiment: str | None = None,
        statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (),
        metrics: Sequence[MetricFilter] = (),
        limit: int = 100,
        before: str | None = None,
        parent: str | None = None,
        include_children: bool = False,
    ) -> tuple[Sequence[RunRecord], bool]:
        """Runs, newest first, and whether there are more."""
        found = [
            replace(run, history=())
            for run in self._newest_first()
            if experiment in (None, run.experiment)
            and (run.parent_id == parent or (include_children and parent is None))
            and (not statuses or run.status in statuses)
            and all(key in run.tags and value in (None, run.tags[key]) for key, value in tags)
            and all(self._fits(run.id, metric) for metric in metrics)
        ]
        if before is not None:
            mark = self.get_run(before)
            found = [run for run in found if (run.created, run.id) < (mark.created, mark.id)]
        return found[:limit], len(found) > limit

    def _fits(self, run_id: str, metric: MetricFilter) -> bool:
        """Whether a metric of numbers came to what is asked for."""
        values = [value for _, _, value in self._points[run_id].get(metric.name, ())]
        if not values:
            return False
        value = {"last": values[-1], "min": min(values), "max": max(values)}[metric.statistic]
        compare = {"<": lt, "<=": le, ">": gt, ">=": ge, "=": eq, "!=": ne}[metric.comparison]
        return bool(compare(value, metric.value))

    def get_run(self, run_id: str) -> RunRecord:
        """One run with its history."""
        if run_id not in self._runs:
            raise UserErrorException(f"There is no run {run_id!r}.{did_you_mean(run_id, self._runs)}")
        return self._runs[run_id]

    def summaries(self, run_id: str) -> Sequence[SeriesSummary]:
        """A row for each metric of a run."""
        with self._lock:
            return [_summary(name, points) for name, points in sorted(self._points[self.get_run(run_id).id].items())]

    def metrics(self, run_id: str, name: str | None = None, points: int | None = None) -> Mapping[str, Any]:
        """Points of metrics by name, as the wire has them; thinned by leaving out."""
        with self._lock:
            mine = self._points[self.get_run(run_id).id]
            return {key: _series(value, points) for key, value in sorted(mine.items()) if name in (None, key)}

    def files(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """Files of a run by path."""
        root = self._folder / self.get_run(run_id).id
        return [
            {"path": path.relative_to(root).as_posix(), "size": path.stat().st_size, "sha256": None}
            for path in sorted(root.rglob("*"))
            if path.is_file()
        ]

    def locate(self, run_id: str, path: str) -> LocatedFile:
        """Where a file of a run lies."""
        root = (self._folder / self.get_run(run_id).id).resolve()
        target = (root / path).resolve()
        if not target.is_relative_to(root) or not target.is_file():
            known = [entry["path"] for entry in self.files(run_id)]
            raise UserErrorException(f"Run {run_id} keeps no file {path!r}.{did_you_mean(path, known)}")
        return LocatedFile(str(target), target.stat().st_size, None)

    def models(self, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]:
        """Model versions, newest first."""
        return [m for m in self._models if name in (None, m.name) and run_id in (None, m.run_id)]

    def datastores(self) -> Sequence[Mapping[str, Any]]:
        """Datastores as they were put in."""
        return list(self.known_datastores)

    def datasets(self) -> Sequence[DatasetRecord]:
        """Dataset versions as they were put in, newest first."""
        return list(self.known_datasets)

    async def cancel(self, run_id: str) -> RunRecord:
        """Ask for a run's end."""
        run = self.get_run(run_id)
        if run.status.final or run.status is RunStatus.CANCEL_REQUESTED:
            return run
        now = run.history[-1]["time"] + 1.0 if run.history else run.created
        return self.move(run_id, RunStatus.CANCEL_REQUESTED, now, Reason("cancel_requested", "Asked to stop."))

    def redeem(self, code: str) -> str | None:
        """Where a login code leads, once."""
        return self._codes.pop(code, None)

    async def run_stream(
        self, run_id: str, *, logs: bool, offsets: Mapping[str, int]
    ) -> AsyncIterator[tuple[str, Any]]:
        """What happens to a run, as ``docs/dev/wire.md`` has it."""
        seen, told, counts = dict(offsets), None, self._counts(run_id)
        names = set(self._log_files(run_id)) | {entry["path"] for entry in self.files(run_id)}
        async with _Watch(self._watchers) as changed:
            while True:
                run = self.get_run(run_id)
                if run != told and not run.status.final:
                    yield "run", replace(run, history=())
                for event in self._log_events(run_id, seen) if logs else ():
                    yield event
                grown = [name for name, count in self._counts(run_id).items() if counts.get(name) != count]
                counts = self._counts(run_id)
                if grown:
                    yield "metrics", {"names": grown}
                if (now_there := {entry["path"] for entry in self.files(run_id)}) != names:
                    names = now_there
                    yield "files", {}
                if run.status.final:
                    yield "run", replace(run, history=())
                    yield "end", {}
                    return
                told = run
                if not await changed(self._keep_alive_s):
                    yield "keep-alive", None

    async def runs_stream(self, experiment: str | None) -> AsyncIterator[tuple[str, Any]]:
        """Each change of a run (of the experiment)."""
        told = dict(self._runs)
        async with _Watch(self._watchers) as changed:
            while True:
                if not await changed(self._keep_alive_s):
                    yield "keep-alive", None
                for run_id, run in list(self._runs.items()):
                    if told.get(run_id) != run and experiment in (None, run.experiment):
                        yield "run", replace(run, history=())
                told = dict(self._runs)

    @contextmanager
    def _change(self) -> Any:
        with self._lock:
            yield
        for loop, event in list(self._watchers):
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def _newest_first(self) -> list[RunRecord]:
        with self._lock:
            return sorted(self._runs.values(), key=lambda run: (run.created, run.id), reverse=True)

    def _counts(self, run_id: str) -> dict[str, int]:
        with self._lock:
            return {name: len(points) for name, points in self._points[run_id].items()}

    def _log_files(self, run_id: str) -> list[str]:
        return [e["path"] for e in self.files(run_id) if e["path"].startswith("azureml-logs/")]

    def _log_events(self, run_id: str, seen: dict[str, int]) -> list[tuple[str, Any]]:
        events: list[tuple[str, Any]] = []
        for name in self._log_files(run_id):
            with (self._folder / run_id / name).open("rb") as f:
                f.seek(start := seen.get(name, 0))
                content = f.read()
            if content:
                seen[name] = start + len(content)
                text = content.decode("utf-8", "replace")
                events.append(("log", {"file": name, "offset": start, "next": seen[name], "text": text}))
        return events


class _Watch:
    """Waits for changes: ``await changed(seconds)`` is False when none came."""

    def __init__(self, watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        self._watchers = watchers

    async def __aenter__(self) -> Any:
        self._event = asyncio.Event()
        self._entry = (asyncio.get_running_loop(), self._event)
        self._watchers.add(self._entry)
        return self._changed

    async def __aexit__(self, *_: object) -> None:
        self._watchers.discard(self._entry)

    async def _changed(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        self._event.clear()
        return True


def _summary(name: str, points: Sequence[Point]) -> SeriesSummary:
    values = [value for _, _, value in points]
    numbers = [v for v in values if isinstance(v, int | float) and v == v]
    return SeriesSummary(
        name=name,
        type=_type(values),
        count=len(points),
        last=values[-1],
        last_step=points[-1][1],
        minimum=min(numbers, default=None),
        maximum=max(numbers, default=None),
    )


def _series(points: Sequence[Point], most: int | None) -> Mapping[str, Any]:
    step = max(1, -(-len(points) // most)) if most else 1
    kept = points[::step]
    return {
        "type": _type([value for _, _, value in points]),
        "count": len(points),
        "times": [time for time, _, _ in kept],
        "steps": [step for _, step, _ in kept],
        "values": [value for _, _, value in kept],
    }


def _type(values: Sequence[Any]) -> str:
    if all(isinstance(value, int) for value in values):
        return "int"
    return "float" if all(isinstance(value, int | float) for value in values) else "json"
