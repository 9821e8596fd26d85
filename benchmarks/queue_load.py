"""A server with 10,000 queued runs: each everyday call beside the same with none queued.

The calls are those of a client that stays: submit (with a snapshot that is stored), the state of the run that was
submitted last, cancel of it, the list that `windlass ps` prints, and the first page of the line with all reasons. Then
the server is killed, and the time until the next one answers and has all of them in line is measured, and its memory.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any

import psutil
from _measure import Row, ms, note, quick, tell
from _workspace import cluster, config, experiment, workspace

from windlass import Workspace
from windlass import _submit as jobs
from windlass.specs._codec import to_wire

_TARGET = 2.0
_EVERYDAY = ("submit", "status of the last", "cancel")
"""Calls that are about one run; lists are as long as they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=500 if quick() else 10_000)
    parser.add_argument("--calls", type=int, default=10 if quick() else 60)
    args = parser.parse_args()
    ws = workspace()
    server = psutil.Process(ws._client.get("/v1/server")["pid"])
    target = cluster(ws, 1, "line")
    holder = experiment(ws, "line").submit(config("import signal; signal.pause()\n", target))
    while holder.get_status() != "Running":
        time.sleep(0.02)
    prepared = jobs.prepare(ws._client, "line", config("print(1)\n", target)._job(), {}, None)
    spec = to_wire(prepared[0])
    submit_one(ws, spec)  # warm, and from now on somebody waits
    few, empty_bytes = measured(ws, spec, args.calls), server.memory_info().rss
    began = time.perf_counter()
    for _ in range(args.queued):
        submit_one(ws, spec)
    filled_s = time.perf_counter() - began
    wait_for_line(ws, args.queued)
    many = measured(ws, spec, args.calls)
    for name, seconds in many.items():
        ratio = seconds / few[name]
        judged = name in _EVERYDAY
        tell(Row(f"{name}, {args.queued:,} queued", ms(seconds), f"1 queued: {ms(few[name])}", f"{ratio:.2f}x",
                 f"≤ {_TARGET:g}x" if judged else "", ratio <= _TARGET if judged else None))  # fmt: skip
    tell(Row(f"{args.queued:,} submits, one after another", f"{args.queued / filled_s:.0f}/s"))
    more = server.memory_info().rss - empty_bytes
    tell(Row("memory of the server for one queued run", f"{more / args.queued / 1024:.1f} KiB"))
    answers_s, line_s = restarted(ws, server, args.queued)
    tell(Row("killed server → next one answers", f"{answers_s:.2f} s"))
    tell(Row("killed server → all are in line again", f"{line_s:.2f} s"))
    note("The first call of a kind is not counted; medians.")
    ws._client.post("/v1/server/stop", {"force": True})


def submit_one(ws: Workspace, spec: Any) -> str:
    """The id of one more run."""
    return str(ws._client.post("/v1/runs", {"spec": spec})["id"])


def measured(ws: Workspace, spec: Any, calls: int) -> dict[str, float]:
    """Median seconds of each kind of call."""
    found: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = call()
        found.setdefault(name, []).append(time.perf_counter() - began)
        return answer

    for number in range(calls):
        run_id = timed("submit", lambda: submit_one(ws, spec))
        timed("status of the last", lambda run_id=run_id: ws._client.get(f"/v1/runs/{run_id}"))  # type: ignore[misc]
        timed("the first 100 in line, with reasons", lambda: ws._client.get("/v1/computes/line/queue", limit=100))
        canceled = timed("cancel", lambda run_id=run_id: ws._client.post(f"/v1/runs/{run_id}/cancel"))  # type: ignore[misc]
        assert canceled["status"] == "Canceled", canceled
        if number < 5:
            timed("list as ps does", lambda: ws._client.get("/v1/runs", limit=1000, status="Queued"))
    return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}


def wait_for_line(ws: Workspace, queued: int) -> None:
    """Until so many wait."""
    while ws._client.get("/v1/computes/line")["waiting"] < queued:
        time.sleep(0.02)


def restarted(ws: Workspace, server: psutil.Process, queued: int) -> tuple[float, float]:
    """Seconds from the server's death until the next answers, and until all are in line."""
    began = time.perf_counter()
    os.kill(server.pid, signal.SIGKILL)
    server.wait(10)
    ws._client.get("/v1/server")
    answers_s = time.perf_counter() - began
    wait_for_line(ws, queued)
    return answers_s, time.perf_counter() - began


if __name__ == "__main__":
    main()
