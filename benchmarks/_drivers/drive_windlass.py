"""Windlass, as its users call it: interactive runs, submitted scripts, and the client that reads them back."""

import os
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from _workspace import cluster, config, experiment, watch, workspace
from drive_bare import watched
from serving import serve, timed
from short_jobs import through

from windlass import Run

LOGS = """
import sys, time
from azureml.core import Run
run, points = Run.get_context(), int(sys.argv[1])
run.log("warm", 0.5)
run.flush()
began = time.perf_counter()
for number in range(points):
    run.log("loss", 0.5)
called = time.perf_counter()
run.flush()
print("took", called - began, time.perf_counter() - began)
"""
KEEPS = """
import shutil, sys, time
shutil.copytree(sys.argv[1], "outputs", dirs_exist_ok=True)
print("written", time.time())
"""

ws = workspace()
configs: dict[str, object] = {}


def log(points: int, how: str) -> dict[str, float]:
    if how == "job":
        seen: list[list[str]] = []
        run = experiment(ws).submit(config(LOGS, "local", arguments=[points]))
        watch(run, lambda line, _: seen.append(line.split()))
        calls, settled = (float(text) for text in next(words for words in seen if words[:1] == ["took"])[1:])
        return {"calls": calls, "settled": settled}
    run = experiment(ws).start_logging()
    run.log("warm", 0.5)
    run.flush()
    began = time.perf_counter()
    for _ in range(points):
        run.log("loss", 0.5)
    called = time.perf_counter()
    run.flush()
    settled = time.perf_counter() - began
    run.complete()
    return {"calls": called - began, "settled": settled}


def submit(script: str, how: str) -> dict[str, float]:
    if how == "command":
        command = [str(Path(sys.executable).with_name("windlass")), "submit", os.path.basename(script), "-w", ws.name]
        return watched(command, cwd=os.path.dirname(script))
    if script not in configs:
        configs[script] = config(Path(script).read_text(), "local")
    marks: list[float] = []
    began = time.perf_counter()
    run = experiment(ws).submit(configs[script])
    watch(run, lambda line, when: marks.append(when) if line == "first line" else None, time.perf_counter)
    return {"line": marks[0] - began, "end": time.perf_counter() - began}


def jobs(count: int, script: str, nodes: int) -> dict[str, float]:
    job = config(Path(script).read_text(), cluster(ws, nodes))
    return {"seconds": through(ws, job, count)[0]}


def keep(path: str, how: str) -> dict[str, float]:
    """Outputs of a script until its run is final, or files handed to an interactive run until it has them."""
    if how == "upload":
        run = experiment(ws).start_logging()
        seconds = timed(partial(run.upload_folder, "kept", path))
        run.complete()
    else:
        written: list[float] = []
        run = experiment(ws).submit(config(KEEPS, "local", arguments=[path]))
        watch(run, lambda line, _: written.append(float(line.split()[1])) if line.startswith("written") else None)
        ended = ws._client.get(f"/v1/runs/{run.id}")["history"][-1]["time"]
        seconds = ended - written[0]
    while not ws._client.get(f"/v1/runs/{run.id}")["verified"]:
        time.sleep(0.02)  # its checksums are computed afterwards: not into the next one's time
    run.delete()
    return {"seconds": seconds}


def fill(points: int) -> dict[str, str]:
    """A run with so many points of one series; its id."""
    run = experiment(ws, "points").start_logging()
    for number in range(points):
        run.log("loss", number * 0.5)
    run.complete()
    return {"run": run.id}


def read(run: str, points: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    found_run = Run.get(ws, run)
    seconds = timed(lambda: found.update(found_run.get_metrics(name="loss")))
    assert len(found["loss"]) == points, len(found["loss"])
    return {"seconds": seconds}


def fill_runs(count: int) -> None:
    for number in range(count):
        run = experiment(ws, "search").start_logging()
        run.tag("batch", str(number % 10))
        run.log("loss", number / count)
        run.complete()


def query(batch: str, below: float, expected: int) -> dict[str, float]:
    """As ``search``, in one call of the HTTP API, which ``windlass run list --tag --metric`` makes too."""
    found: list[object] = []
    wanted = {"experiment": "search", "tag": f"batch={batch}", "metric": f"loss<{below}", "limit": 1000}
    seconds = timed(lambda: found.extend(ws._client.get("/v1/runs", **wanted)["runs"]))
    assert len(found) == expected, len(found)
    return {"seconds": seconds}


def search(batch: str, below: float, expected: int) -> dict[str, float]:
    """Runs of a tag whose last loss is below."""
    began = time.perf_counter()
    found = [run for run in experiment(ws, "search").get_runs(tags={"batch": batch})
             if run.get_metrics(name="loss")["loss"] < below]  # fmt: skip
    seconds = time.perf_counter() - began
    assert len(found) == expected, len(found)
    return {"seconds": seconds}


if __name__ == "__main__":
    serve(log=log, submit=submit, jobs=jobs, keep=keep, fill=fill, read=read, fill_runs=fill_runs, search=search,
          query=query)  # fmt: skip
