"""What one run's metrics cost as they grow: 10,000 to 10,000,000 points in a series, beside bare sqlite3.

Points go in as an agent sends them: spool frames in pieces of up to 1 MiB, each durable when it is answered. The bare
database has one row a point in a table with an index, written in transactions of as many points; its chart is a query
for the least and the greatest value of each of 500 buckets. Peaks of memory are the kernel's high-water mark.
"""

from __future__ import annotations

import argparse
import math
import os
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from _growth import Cost, Pages, Question, by_size, compare, held_by, mib, plot, processes
from _measure import note, quick, rounds, table
from _plot import seconds
from _workspace import experiment, workspace

from windlass import Run, Workspace
from windlass.specs.spool import FLOAT, FLOAT_BODY, seal, series_frame

_SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
_BATCH = 25_000
_CHART_POINTS = 1_000
_MOST_WHOLE = 1_000_000
"""``get_metrics`` of more would mostly measure the client's memory."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES[:2] if quick() else _SIZES)
    parser.add_argument("--rounds", type=int, default=rounds(7))
    args = parser.parse_args()
    ws = workspace()
    pages, server = Pages(ws), processes(ws)["server"]
    costs: dict[str, Cost] = {}
    states: dict[str, list[str]] = {}
    for size in args.sizes:
        ours, bare = _Ours(ws, pages), _Bare(os.path.join(os.environ["WINDLASS_HOME"], f"bare-{size}.db"))
        rate, bare_rate = _fill(size, ours, bare)
        state = {"ingest": f"{rate:,.0f}/s", "… bare": f"{bare_rate:,.0f}/s", "… share": f"{rate / bare_rate:.2f}x"}
        state["memory of the server, at rest"] = mib(held_by(server).pss_bytes)
        for name, (our, its) in _questions(size, ours, bare).items():
            before = _reset_peak(server)
            compare(costs, name, size, args.rounds if size <= _MOST_WHOLE else min(args.rounds, 3), our, its)
            state[f"… the most for: {name}"] = f"+{mib(max(0, _peak(server) - before))}"
        for name, value in state.items():
            states.setdefault(name, []).append(value)
        bare.close()
    by_size("question", "points", costs, args.sizes)
    rows = [[name, *values, *["-"] * (len(args.sizes) - len(values))] for name, values in states.items()]
    table(["", *(f"{size:,} points" for size in args.sizes)], rows)
    drawn = {f"{name}{kind}": times for name, cost in costs.items() for kind, times in _lines(name, cost)}
    plot("growth_points", "Reading a series as it grows", drawn, "points in the series", "seconds", seconds)
    note(f"A chart has {_CHART_POINTS:,} points. Medians of interleaved rounds.")


def _lines(name: str, cost: Cost) -> Iterator[tuple[str, Any]]:
    yield "", cost.ours
    if name.startswith("chart"):
        yield ", bare", cost.bare


def _fill(size: int, ours: _Ours, bare: _Bare) -> tuple[float, float]:
    """Points per second of both, which take turns."""
    our_s = bare_s = 0.0
    for start in range(0, size, _BATCH):
        count = min(_BATCH, size - start)
        our_s += ours.add(start, count)
        bare_s += bare.add(start, count)
    return size / our_s, size / bare_s


def _questions(size: int, ours: _Ours, bare: _Bare) -> dict[str, tuple[Question, Question]]:
    asked: dict[str, tuple[Question, Question]] = {
        "the run's page": (ours.page, bare.summary),
        "chart": (ours.chart, partial(bare.chart, size)),
    }
    if size <= _MOST_WHOLE:
        asked["all points, by the SDK"] = (partial(ours.whole, size), bare.whole)
    return asked


class _Ours:
    """A run with one series."""

    def __init__(self, ws: Workspace, pages: Pages) -> None:
        self.run: Run = experiment(ws).start_logging(snapshot_directory=None)
        self.run.complete()
        self.path, self.client, self.pages = f"/v1/runs/{self.run.id}", ws._client, pages
        self.offset = 0
        self._send(series_frame(0, {"name": "loss"}))

    def add(self, start: int, count: int) -> float:
        """Seconds until so many points more are durable."""
        base = 1_700_000_000_000_000
        points = ((0, base + n * 1000, n, _value(n)) for n in range(start, start + count))
        return self._send(b"".join(seal(FLOAT_BODY.pack(FLOAT, *point)) for point in points))

    def page(self) -> None:
        """The run's page."""
        self.pages.get(f"/runs/{self.run.id}")

    def chart(self) -> None:
        """What the page's chart asks for."""
        found = self.pages.json(f"/runs/{self.run.id}/metrics?name=loss&points={_CHART_POINTS}")["metrics"]["loss"]
        assert max(found["values"]) == _SPIKE and len(found["values"]) <= _CHART_POINTS

    def whole(self, size: int) -> None:
        """All points."""
        assert len(self.run.get_metrics("loss")["loss"]) == size

    def _send(self, data: bytes) -> float:
        began = time.perf_counter()
        answer = self.client.call(
            "POST", f"{self.path}/spool", query={"spool": "0.spool", "offset": self.offset}, body=data,
            content_type="application/octet-stream",
        )  # fmt: skip
        spent = time.perf_counter() - began
        self.offset += len(data)
        assert answer["acked"] == self.offset
        return spent


_SPIKE = 1e6


def _value(n: int) -> float:
    return _SPIKE if n == 4_321 else math.sin(n / 1000)


class _Bare:
    """The points in a table of their own."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.database = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA cache_size=-32768",
            "CREATE TABLE points (run INTEGER, series INTEGER, time INTEGER, step INTEGER, value REAL)",
            "CREATE INDEX by_series ON points (run, series, step)",
        ):  # fmt: skip
            self.database.execute(statement)

    def add(self, start: int, count: int) -> float:
        """Seconds of a transaction with so many points."""
        points = [(1, 1, n * 1000, n, _value(n)) for n in range(start, start + count)]
        began = time.perf_counter()
        self.database.execute("BEGIN IMMEDIATE")
        self.database.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?)", points)
        self.database.execute("COMMIT")
        return time.perf_counter() - began

    def summary(self) -> None:
        """How many, and between which values."""
        self.database.execute(
            "SELECT count(*), min(value), max(value) FROM points WHERE run = 1 AND series = 1"
        ).fetchall()

    def chart(self, size: int) -> None:
        """The extremes of 500 buckets."""
        self.database.execute(
            "SELECT step * 500 / ?, min(value), max(value) FROM points WHERE run = 1 AND series = 1 GROUP BY 1", (size,)
        ).fetchall()

    def whole(self) -> None:
        """All points."""
        query = "SELECT time, step, value FROM points WHERE run = 1 AND series = 1 ORDER BY step"
        self.database.execute(query).fetchall()

    def close(self) -> None:
        """Remove it."""
        self.database.close()
        os.unlink(self.path)


def _reset_peak(pid: int) -> int:
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")
    return _peak(pid)


def _peak(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
