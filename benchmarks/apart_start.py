"""From `submit` to the first line on other machines, and short jobs there, beside bare Ray on the same cluster.

Machines are network namespaces; Ray's head, with its dashboard, is one, and three have a worker each. The first line is
timed from the call to the moment when a line of each node has been read. A bare actor is there for the line only: no
queue, no snapshot, no log, nothing kept. It is measured with and without a process that it starts for the script, as
Windlass and `ray job submit` (by its Python client, on a worker, nothing copied) start one. On `netns` agents are
started without anything below them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from _apart import HOSTS, LAB, ended, first_lines, machines, network, ray_bed
from _measure import Row, interleaved, median_of_pairs, ms, note, percentile, quick, rounds, tell
from _peers import Worker
from _workspace import config, experiment, record, workspace
from short_jobs import through

from windlass import ScriptRunConfig, Workspace

_SCRIPT = "print('first line', flush=True)\n"
_LINE = [sys.executable, "-c", "print('first line')"]
_NOTHING: list[str] = []
_NODES = (1, 2)
_AT_ONCE = 3
_STEPS = ("submit returns", "Running recorded", "lines seen", "final recorded")


class Ours:
    """Submits a run of so many nodes, again and again, and keeps the moments."""

    def __init__(self, ws: Workspace, target: str, nodes: int) -> None:
        self._ws, self._nodes = ws, nodes
        self.config = config(_SCRIPT, target)
        self.config.run_config.node_count = nodes
        self.moments: list[Mapping[str, float]] = []

    def time(self) -> float:
        """Seconds from the call until a line of each node was read. Returns when the run has ended."""
        began = time.time()
        run = experiment(self._ws).submit(self.config)
        marks = {"submit returns": time.time()}
        first_lines(self._ws, run.id, self._nodes)
        marks["lines seen"] = time.time()
        run.wait_for_completion()
        history: list[Any] = record(self._ws, run.id)["history"]
        assert history[-1]["status"] == "Completed", history[-1]
        marks["Running recorded"] = next(h["time"] for h in history if h["status"] == "Running")
        marks["final recorded"] = history[-1]["time"]
        self.moments.append({name: when - began for name, when in marks.items()})
        return marks["lines seen"] - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds(5))
    parser.add_argument("--jobs", type=int, default=6 if quick() else 200)
    parser.add_argument("--beside", type=int, default=6 if quick() else 60, help="how many on `netns`, and bare actors")
    parser.add_argument("--ray-jobs", type=int, default=3 if quick() else 20)
    args = parser.parse_args()
    with ExitStack() as stack:
        switch = stack.enter_context(network())
        bed = stack.enter_context(ray_bed(switch))
        ws = workspace()
        stack.enter_context(ended(ws))
        machines(switch, ws)
        bed.attach(ws)
        bare = bed.worker("drive_ray_apart")
        stack.callback(bare.close)
        bare("connect", address=bed.address, dashboard=f"{bed.head.address}:8265")
        for nodes in _NODES:
            _first_line(ws, bare, nodes, args.rounds)
        _short_jobs(ws, bare, args.jobs, args.beside, args.ray_jobs)
    note(
        f"Medians of {args.rounds} rounds in turns. All machines, the server and the client share {os.cpu_count()} "
        f"cores. Short jobs: one client, {_AT_ONCE} nodes; actors and Ray's jobs at most {_AT_ONCE} at once."
    )


def _first_line(ws: Workspace, bare: Worker, nodes: int, count: int) -> None:
    ours = {target: Ours(ws, target, nodes) for target in (LAB, HOSTS)}
    timed: dict[str, Callable[[], float | None]] = {
        "actor": lambda: float(bare("gang", count=nodes, command=_NOTHING)["line"]),
        "process": lambda: float(bare("gang", count=nodes, command=_LINE)["line"]),
        **{target: one.time for target, one in ours.items()},
    }
    if nodes == 1:  # Ray's jobs know no gangs
        timed["job"] = lambda: float(bare("submit", entrypoint="-c 'print(1)'")["line"])
    seconds = interleaved(count, timed)
    where = f"{nodes} node{'s' * (nodes > 1)}"
    against = {
        "actor": "a bare actor" if nodes == 1 else "a gang of bare actors",
        "process": "… with a process for the script", "job": "`ray job submit`",
    }  # fmt: skip
    for key in (key for key in against if key in seconds):
        share = median_of_pairs(seconds[LAB], seconds[key], lambda a, b: a / b)
        measured = f"{ms(statistics.median(seconds[LAB]))} (p95 {ms(percentile(seconds[LAB], 95))})"
        tell(Row(
            f"submit → first line on {where}, Ray" if key == "actor" else "…", measured if key == "actor" else "",
            f"{against[key]}: {ms(statistics.median(seconds[key]))}", f"{share:.2f}x",
        ))  # fmt: skip
    for step in _STEPS:
        tell(Row(f"… until: {step}", ms(statistics.median(m[step] for m in ours[LAB].moments[1:]))))
    tell(Row(f"submit → first line on {where}, `netns`", ms(statistics.median(seconds[HOSTS]))))


def _short_jobs(ws: Workspace, bare: Worker, count: int, beside: int, ray_count: int) -> None:
    on_hosts = beside / _through(ws, config("print(1)\n", HOSTS), beside)
    on_ray = count / _through(ws, config("print(1)\n", LAB), count)
    actors = beside / float(bare("actors", count=beside, at_once=_AT_ONCE, command=_LINE)["seconds"])
    jobs = ray_count / float(bare("jobs", count=ray_count, at_once=_AT_ONCE, entrypoint="-c 'print(1)'")["seconds"])
    against = f"{beside} actors with a process: {actors:.1f}/s"
    tell(Row(f"{count} short jobs, Ray", f"{on_ray:.1f}/s", against, f"{on_ray / actors:.2f}x"))
    tell(Row("…", "", f"{ray_count} x `ray job submit`: {jobs:.1f}/s", f"{on_ray / jobs:.2f}x"))
    tell(Row(f"{beside} short jobs, `netns`", f"{on_hosts:.1f}/s", against, f"{on_hosts / actors:.2f}x"))


def _through(ws: Workspace, job: ScriptRunConfig, count: int) -> float:
    return through(ws, job, count, limit_s=300)[0]


if __name__ == "__main__":
    main()
