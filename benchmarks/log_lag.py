"""How long a printed line takes to the screen of a waiting client, idle and while metrics are being logged.

The script prints the monotonic clock at random intervals; `wait_for_completion(show_output=True)` reads the same clock
when the line arrives. Load: other runs that log 20 series each at a steady pace, one point after another, through
`run.log`, shipped and durable meanwhile. The baseline is the same script into a pipe that this process reads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from _measure import Row, ms, note, percentile, quick, tell
from _workspace import cluster, config, experiment, watch, workspace

from windlass import Run, ScriptRunConfig, Workspace

_TARGET_S = 0.1
_PRINTS = """
import random, sys, time
rng = random.Random(7)
for _ in range(int(sys.argv[1])):
    time.sleep(rng.uniform(0.01, 0.09))
    sys.stdout.write("at %.6f\\n" % time.monotonic())
    sys.stdout.flush()
"""
_LOGS = """
import sys, time
from azureml.core import Run
run, series, pause, end = Run.get_context(), int(sys.argv[1]), float(sys.argv[2]), time.monotonic() + 600
names = ["metric %d" % n for n in range(series)]
due = time.monotonic()
while time.monotonic() < end:
    for name in names:
        run.log(name, 0.5)
    due += pause
    time.sleep(max(0.0, due - time.monotonic()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10 if quick() else 200)
    parser.add_argument("--runs", type=int, default=8, help="logging runs at once")
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="*", default=[100.0, 400.0], help="points per series and second")
    args = parser.parse_args()
    ws = workspace()
    prints = config(_PRINTS, cluster(ws, 1, "printing"), arguments=[str(args.lines)])
    logging = cluster(ws, args.runs, "logging")
    _lag(ws, prints)  # warm
    _tell("printed line → seen, idle", _lag(ws, prints), _bare_lag(args.lines))
    for rate in args.rates:
        job = config(_LOGS, logging, arguments=[str(args.series), repr(1 / rate)])
        runs = [experiment(ws, "load").submit(job) for _ in range(args.runs)]
        while any(run.get_status() != "Running" for run in runs):
            time.sleep(0.05)
        before, began = _points(ws, runs), time.monotonic()
        lags = _lag(ws, prints)
        acknowledged = (_points(ws, runs) - before) / (time.monotonic() - began)
        bare = _bare_lag(args.lines)
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait_for_completion(raise_on_error=False)
        asked = args.runs * args.series * rate
        _tell(f"… while {args.runs} runs x {args.series} series log {asked:,.0f} points/s", lags, bare)
        tell(Row("… of which in the history", f"{acknowledged:,.0f}/s"))
    note(f"{args.lines} lines each, 10 to 90 ms apart; the logging scripts run on the same {os.cpu_count()} cores.")


def _lag(ws: Workspace, prints: ScriptRunConfig) -> list[float]:
    lags: list[float] = []

    def seen(line: str, when: float) -> None:
        if line.startswith("at "):
            lags.append(when - float(line.split()[1]))

    watch(experiment(ws).submit(prints), seen, time.monotonic)
    return lags


def _bare_lag(lines: int) -> list[float]:
    command = [sys.executable, "-c", _PRINTS, str(lines)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return [time.monotonic() - float(line.split()[1]) for line in process.stdout]


def _points(ws: Workspace, runs: Sequence[Run]) -> int:
    metrics = (ws._client.get(f"/v1/runs/{run.id}/metrics", points=2) for run in runs)
    return sum(series["count"] for of_run in metrics for series in of_run["metrics"].values())


def _tell(what: str, lags: Sequence[float], bare: Sequence[float]) -> None:
    p95 = percentile(lags, 95)
    tell(Row(
        what, f"p50 {ms(statistics.median(lags))}, p95 {ms(p95)}, max {ms(max(lags))}",
        f"pipe: p95 {ms(percentile(bare, 95))}", f"{ms(p95 - percentile(bare, 95))} more at p95",
        f"p95 ≤ {ms(_TARGET_S)}", p95 <= _TARGET_S,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
