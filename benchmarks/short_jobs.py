"""Short jobs per second through the queue, beside bare `python -c 'print(1)'` back to back.

One client submits the jobs one after another with `Experiment.submit` (each snapshots its folder) to a cluster of
several nodes and waits until all are final. The bare command runs on the interpreter that the jobs get, half of its
repetitions before, half after each measurement. The CPU time that each part of Windlass takes of a job says where the
time goes: all of it together keeps every core busy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time

import psutil
from _measure import Row, ms, note, quick, rounds, tell
from _workspace import cluster, config, experiment, workspace

from windlass import ScriptRunConfig, Workspace

_TARGET = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10 if quick() else 150)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=rounds(3))
    args = parser.parse_args()
    ws = workspace()
    jobs = {nodes: config("print(1)\n", cluster(ws, nodes)) for nodes in args.nodes}
    through(ws, jobs[args.nodes[-1]], 20)  # warm
    found: dict[int, list[tuple[float, float, float]]] = {nodes: [] for nodes in args.nodes}
    for _ in range(args.rounds):
        for nodes, job in jobs.items():
            before = _bare(args.jobs // 2)
            total_s, submit_s = through(ws, job, args.jobs)
            bare_s = (before + _bare(args.jobs // 2)) / (args.jobs // 2 * 2)
            found[nodes].append((args.jobs / total_s, args.jobs / submit_s, 1 / bare_s))
    best = max(found, key=lambda nodes: _share(found[nodes]))
    for nodes, rates in found.items():
        rate, submitted, bare = (statistics.median(column) for column in zip(*rates, strict=True))
        share = _share(rates)
        tell(Row(
            f"short jobs, {nodes} node{'s' * (nodes > 1)}{' (best)' * (nodes == best)}",
            f"{rate:.0f}/s (submitted at {submitted:.0f}/s)", f"bare: {bare:.0f}/s", f"{share:.0%}",
            f"≥ {_TARGET:.0%}" if nodes == best else "", share >= _TARGET if nodes == best else None,
        ))  # fmt: skip
    for part, seconds in _cpu_of_parts(ws, jobs[best], args.jobs).items():
        tell(Row(f"… CPU time of one job: {part}", ms(seconds)))
    note(f"{args.jobs} jobs by one client; medians of {args.rounds} rounds. The target is for the best row.")


def _cpu_of_parts(ws: Workspace, job: ScriptRunConfig, count: int) -> dict[str, float]:
    server = ws._client.get("/v1/server")
    agent = psutil.Process(server["agents"][0]["pid"])
    parts = {
        "client (submits and watches)": psutil.Process(os.getpid()), "server": psutil.Process(server["pid"]),
        "agent": agent, "keeper, and the job itself": agent.children()[0],
    }  # fmt: skip
    before = {part: _cpu_s(process) for part, process in parts.items()}
    through(ws, job, count)
    return {part: (_cpu_s(process) - before[part]) / count for part, process in parts.items()}


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and those of its children that have ended."""
    return float(sum(process.cpu_times()[:4]))


def _share(rates: list[tuple[float, float, float]]) -> float:
    return statistics.median(rate / bare for rate, _, bare in rates)


def through(ws: Workspace, job: ScriptRunConfig, count: int, limit_s: float = 120) -> tuple[float, float]:
    """Seconds from the first submit until all are final, and until all are submitted."""
    name = f"jobs-{time.monotonic_ns()}"
    ended: set[str] = set()
    done, listening = threading.Event(), threading.Event()

    def listen() -> None:
        for event in ws._client.events("/v1/stream", experiment=name):
            listening.set()
            if event.data["status"] in ("Completed", "Failed", "Canceled"):
                assert event.data["status"] == "Completed", event.data["reason"]
                ended.add(event.data["id"])
                if len(ended) == count:
                    done.set()
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    time.sleep(0.2)  # the stream says nothing until something changes
    began = time.perf_counter()
    for _ in range(count):
        experiment(ws, name).submit(job)
    submitted = time.perf_counter() - began
    assert done.wait(limit_s), f"{len(ended)} of {count} jobs ended"
    return time.perf_counter() - began, submitted


def _bare(count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        subprocess.run([sys.executable, "-c", "print(1)"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
