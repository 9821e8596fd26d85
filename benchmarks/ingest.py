"""Metric points per second into the store, beside bare sqlite3 on the same disk in the same run.

64 runs x 20 series, batches of at most 200 points, every batch durable before it counts. The store is fed by as many
threads as the server has workers (runs are spread over them, each waits for its batch's commit), from frames already
decoded, and once more from raw spool bytes. Bare sqlite3: one row a point, one table with an index, batches of 100, one
commit each, WAL and synchronous=FULL.

    python benchmarks/ingest.py [--seconds 4] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from _measure import Row, ms, note, quick, tell

from windlass.specs.run import RunSpec
from windlass.specs.spool import FLOAT, FLOAT_BODY, SERIES, Frame, decode, seal, series_frame
from windlassd.store.base import Writer
from windlassd.store.sql import SqlStore

RUNS, SERIES_COUNT, BATCH, THREADS, ROUNDS = 64, 20, 200, 16, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = 0.2 if quick() else 3.0
    parser.add_argument("--seconds", type=float, default=usual, help="how long each measurement takes")
    parser.add_argument("--folder", help="where to put the databases; default: the temporary folder")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="ingest-", dir=args.folder)
    try:
        found: dict[str, list[tuple[float, float]]] = {"from decoded frames": [], "from raw spool bytes": []}
        waits: list[float] = []
        for number in range(ROUNDS):
            for name, rates in found.items():
                place = os.path.join(folder, f"{name[5:8]}{number}")
                bare = _bare(place + ".db", args.seconds / 2)
                with _Fed(place, "raw" in name) as fed:
                    rates.append((fed.rate(args.seconds), bare))
                    waits += fed.seen
        for name, rates in found.items():
            _say(name, rates)
        tell(Row("… a small write of another kind meanwhile", f"p50 {ms(statistics.median(waits))}"))
        note(f"{RUNS} runs x {SERIES_COUNT} series, batches of {BATCH}, {THREADS} threads; medians of {ROUNDS} rounds.")
    finally:
        shutil.rmtree(folder)


def _say(name: str, rates: list[tuple[float, float]]) -> None:
    share = statistics.median(ours / bare for ours, bare in rates)
    ours, bare = (statistics.median(column) for column in zip(*rates, strict=True))
    tell(Row(
        f"durable ingest {name}", f"{ours:,.0f} points/s", f"bare sqlite3: {bare:,.0f}/s", f"{share:.2f}x",
        "≥ 0.5x", share >= 0.5,
    ))  # fmt: skip


def _bare(path: str, seconds: float) -> float:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE points (run INTEGER, series INTEGER, time INTEGER, step INTEGER, value REAL)")
    database.execute("CREATE INDEX by_series ON points (run, series, step)")
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        run = count // 100 % RUNS
        rows = [(run, i % SERIES_COUNT, count + i, count + i, 0.5) for i in range(100)]
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")
        count += 100
    database.close()
    return count / spent


class _Fed:
    """A store with runs, and threads that feed it."""

    def __init__(self, folder: str, raw: bool) -> None:
        self.store, self.raw = SqlStore.open(folder), raw
        self.offsets = [0] * RUNS
        self.batches = [0] * RUNS
        self.seen: list[float] = []
        for run in range(RUNS):
            self.store.write(partial(_create, f"run{run}")).result()
            self._send(run, _names())

    def __enter__(self) -> _Fed:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def rate(self, seconds: float) -> float:
        """Points per second that were acknowledged."""
        counts = [0] * THREADS
        self.seen.clear()
        start = time.perf_counter()
        threads = [_thread(self._feed, place, counts, start + seconds) for place in range(THREADS)]
        probe = _thread(self._probe, start + seconds)
        for thread in [*threads, probe]:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)

    def _feed(self, place: int, counts: list[int], end: float) -> None:
        while time.perf_counter() < end:
            for run in range(place, RUNS, THREADS):
                self._send(run, _points(self.batches[run], self.raw))
                self.batches[run] += 1
                counts[place] += BATCH

    def _send(self, run: int, batch: bytes | list[Frame]) -> None:
        start = self.offsets[run]
        frames = [frame for _, frame in decode(batch)] if isinstance(batch, bytes) else batch
        end = start + 41 * len(frames)
        held = self.store.write(lambda w: w.append(f"run{run}", "0.spool", start, end, frames)).result()
        assert held == end
        self.offsets[run] = end

    def _probe(self, end: float) -> None:
        while (start := time.perf_counter()) < end:
            self.store.write(lambda w: w.set_meta("probe", str(start))).result()
            self.seen.append(time.perf_counter() - start)
            time.sleep(0.01)


def _create(run_id: str, writer: Writer) -> None:
    spec = RunSpec(experiment="bench", script="train.py", snapshot_id="0" * 64)
    writer.create_run(run_id, spec, now=time.time())


def _thread(target: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)
    thread.start()
    return thread


def _names() -> bytes | list[Frame]:
    frames = b"".join(series_frame(n, {"name": f"metric {n}"}) for n in range(SERIES_COUNT))
    return [Frame(SERIES, frame.series, 0, None, frame.value) for _, frame in decode(frames)]


def _points(batch: int, raw: bool) -> bytes | list[Frame]:
    base = 1_700_000_000_000_000 + batch * BATCH
    each = [(i % SERIES_COUNT, base + i, batch * 10 + i // SERIES_COUNT, i / 7) for i in range(BATCH)]
    if raw:
        return b"".join(seal(FLOAT_BODY.pack(FLOAT, *point)) for point in each)
    return [Frame(FLOAT, *point) for point in each]


if __name__ == "__main__":
    main()
