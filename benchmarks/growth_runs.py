"""What it costs when runs go at once: 1, 10 and 100, each printing 10 lines and logging 100 points per second.

A cluster has as many slots. All are submitted one after another by one client; once all run, ten of them (or all) are
watched as a user would; then all are told to end in the same moment. Bare: the same scripts as plain processes that log
nothing, their lines read from pipes. Memory is PSS: shared pages are counted by their share.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from _growth import Held, held_by, mib, plot, processes
from _measure import ms, note, percentile, quick, table
from _plot import seconds
from _workspace import cluster, config, experiment, workspace

from windlass import Run, Workspace

_SIZES = (1, 10, 100)
_WATCHED, _SERIES = 10, 10
_BARE = """
import os, sys, time
def log(name, value):
    pass
"""
_OURS = """
import os, sys, time
from azureml.core import Run
log = Run.get_context().log
"""
_BODY = """
names = ["metric %d" % n for n in range({series})]
due = time.monotonic()
while not os.path.exists(sys.argv[1]):
    sys.stdout.write("at %.6f\\n" % time.monotonic())
    sys.stdout.flush()
    for name in names:
        log(name, 0.5)
    due += 0.1
    time.sleep(max(0.0, due - time.monotonic()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES[:2] if quick() else _SIZES)
    parser.add_argument("--seconds", type=float, default=2.0 if quick() else 8.0, help="how long all run")
    args = parser.parse_args()
    ws = workspace()
    _Ours(ws, 1).all_of_it(0.5)  # warm
    columns: dict[str, list[str]] = {}
    lag: dict[str, dict[int, float]] = {"printed line → seen, p95": {}, "bare, by a pipe": {}}
    start: dict[str, dict[int, float]] = {"first submit → all print": {}, "bare": {}}
    for size in args.sizes:
        bare = _Bare(size).all_of_it(args.seconds)
        ours = _Ours(ws, size).all_of_it(args.seconds)
        for name, value in _rows(size, args.seconds, ours, bare).items():
            columns.setdefault(name, []).append(value)
        for drawn, kind in zip(lag.values(), (ours, bare), strict=True):
            drawn[size] = percentile(kind.lags, 95)
        for drawn, kind in zip(start.values(), (ours, bare), strict=True):
            drawn[size] = kind.start_s
    table(
        ["", *(f"{size} run{'s' * (size > 1)}" for size in args.sizes)], [[n, *cells] for n, cells in columns.items()]
    )
    waits = "seconds; 95 of 100 are faster"
    plot("growth_runs_lag", "How long a printed line takes to its watcher", lag, "runs at once", waits, seconds)
    plot("growth_runs_start", "From the first submit until all runs print", start, "runs at once", "seconds", seconds)
    note(f"All run for {args.seconds:g} s beside each other and the benchmark on {os.cpu_count()} cores.")


@dataclass
class Seen:
    """What was measured of one round."""

    submit_s: float = 0.0
    start_s: float = 0.0
    end_s: float = 0.0
    lags: list[float] = field(default_factory=list)
    points: float = 0.0
    """In the history, by second."""
    held: dict[str, Held] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Cores' worth."""


def _rows(size: int, seconds: float, ours: Seen, bare: Seen) -> dict[str, str]:
    rows = {
        "all submitted": f"{ms(ours.submit_s)} ({size / ours.submit_s:.0f}/s)",
        "first submit → all print": f"{ms(ours.start_s)} (bare {ms(bare.start_s)})",
        "a printed line → seen, p50": f"{ms(percentile(ours.lags, 50))} (pipe {ms(percentile(bare.lags, 50))})",
        "… p95": f"{ms(percentile(ours.lags, 95))} (pipe {ms(percentile(bare.lags, 95))})",
        "points in the history": f"{ours.points:,.0f}/s of {size * _SERIES * 10:,}/s logged",
        "told to end → all final": f"{ms(ours.end_s)} (bare {ms(bare.end_s)})",
    }
    for name, held in ours.held.items():
        rows[f"{name}: memory"] = mib(held.pss_bytes) + (f" ({mib(held.pss_bytes / size)} a run)" if size > 1 else "")
        rows[f"… {name}: threads, open files"] = f"{held.threads}, {held.files}"
        if name in ours.cpu:
            rows[f"… {name}: CPU"] = f"{ours.cpu[name]:.2f} cores"
    return rows


class _Round:
    """One round with ``size`` scripts; they end when the file ``stop`` is there."""

    def __init__(self, size: int) -> None:
        self.size, self.seen = size, Seen()
        self.stop = os.path.join(os.environ["WINDLASS_HOME"], f"stop-{time.monotonic_ns()}")
        self.printing: set[int] = set()
        self.all_print, self.measuring = threading.Event(), threading.Event()

    def line(self, number: int, text: str) -> None:
        """Script ``number`` printed it, and we see it now."""
        now = time.monotonic()
        if number not in self.printing:
            self.printing.add(number)
            if len(self.printing) == self.size:
                self.all_print.set()
        if self.measuring.is_set() and text.startswith("at "):
            self.seen.lags.append(now - float(text.split()[1]))

    def end(self) -> float:
        """Tell all to end; the moment of that."""
        with open(self.stop, "w"):
            return time.monotonic()


class _Bare(_Round):
    def all_of_it(self, seconds: float) -> Seen:
        """Start, let run, end."""
        text = _BARE + _BODY.format(series=_SERIES)
        began = time.monotonic()
        command = [sys.executable, "-c", text, self.stop]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(self.size)]
        threads = [threading.Thread(target=self._read, args=pair) for pair in enumerate(started)]
        for thread in threads:
            thread.start()
        assert self.all_print.wait(120)
        self.seen.start_s = time.monotonic() - began
        self.measuring.set()
        time.sleep(seconds)
        self.measuring.clear()
        told = self.end()
        for process in started:
            process.wait()
        self.seen.end_s = time.monotonic() - told
        for thread in threads:
            thread.join()
        return self.seen

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.line(number, line)


class _Ours(_Round):
    def __init__(self, ws: Workspace, size: int) -> None:
        super().__init__(size)
        self.ws, self.name = ws, f"at-once-{time.monotonic_ns()}"
        self.ended = threading.Semaphore(0)
        self.final = 0

    def all_of_it(self, seconds: float) -> Seen:
        """Submit, let run, end."""
        job = config(_OURS + _BODY.format(series=_SERIES), cluster(self.ws, self.size), arguments=[self.stop])
        listening, done = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, args=(listening, done), daemon=True).start()
        assert listening.wait(60)
        began = time.monotonic()
        runs = [experiment(self.ws, self.name).submit(job) for _ in range(self.size)]
        self.seen.submit_s = time.monotonic() - began
        self._wait_until_all_print(runs)
        self.seen.start_s = time.monotonic() - began
        with self._watching(runs[:: max(1, self.size // _WATCHED)][:_WATCHED]):
            self._measure(runs, seconds)
            told = self.end()
            assert done.wait(300), f"{self.final} of {self.size} ended"
            self.seen.end_s = time.monotonic() - told
        return self.seen

    def _listen(self, listening: threading.Event, done: threading.Event) -> None:
        client = self.ws._client
        answer = client.open("GET", "/v1/stream", query={"experiment": self.name}, own_connection=True)
        listening.set()
        for raw in answer:
            if raw.startswith(b"data:") and any(end in raw for end in (b'"Completed"', b'"Failed"', b'"Canceled"')):
                assert b'"status": "Completed"' in raw or b'"status":"Completed"' in raw, raw
                self.final += 1
                if self.final == self.size:
                    done.set()
                    return

    def _wait_until_all_print(self, runs: Sequence[Run]) -> None:
        folders = [os.path.join(self.ws._dir, "runs", run.id, "files", "azureml-logs") for run in runs]
        waiting = [os.path.join(folder, "70_driver_log.txt") for folder in folders]
        deadline = time.monotonic() + 120
        while waiting := [path for path in waiting if not (os.path.exists(path) and os.path.getsize(path))]:
            assert time.monotonic() < deadline, f"{len(waiting)} runs print nothing"
            time.sleep(0.005)

    @contextmanager
    def _watching(self, runs: Sequence[Run]) -> Iterator[None]:
        threads = [threading.Thread(target=self._watch, args=pair) for pair in enumerate(runs)]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()

    def _watch(self, number: int, run: Run) -> None:
        for event in self.ws._client.events(f"/v1/runs/{run.id}/stream", logs=1):
            if event.name == "log":
                for line in event.data["text"].splitlines():
                    self.line(number, line)

    def _measure(self, runs: Sequence[Run], seconds: float) -> None:
        pids = processes(self.ws)
        time.sleep(0.5)
        before, points = {name: held_by(pid) for name, pid in pids.items()}, self._points(runs)
        began = time.monotonic()
        self.measuring.set()
        time.sleep(seconds)
        self.measuring.clear()
        spent = time.monotonic() - began
        self.seen.held = {name: held_by(pid) for name, pid in pids.items()}
        self.seen.cpu = {name: (held.cpu_s - before[name].cpu_s) / spent for name, held in self.seen.held.items()}
        self.seen.points = (self._points(runs) - points) / spent
        self.seen.held["keepers"] = sum(
            (held_by(child.pid) for child in _keepers(pids["agent"])), start=Held(0, 0, 0, 0.0)
        )

    def _points(self, runs: Sequence[Run]) -> int:
        found: dict[str, Any] = self.ws._client.get("/v1/compare", run=[run.id for run in runs])["metrics"]
        return sum(series["count"] for metrics in found.values() for series in metrics.values())


def _keepers(agent: int) -> list[psutil.Process]:
    """The nursery and its keepers, without the scripts below them."""
    (nursery,) = psutil.Process(agent).children()
    return [nursery, *nursery.children()]


if __name__ == "__main__":
    main()
