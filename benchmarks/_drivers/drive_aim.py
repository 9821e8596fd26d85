"""Aim on a repository of its own, without system metrics and terminal capture."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from aim import Repo, Run
from aim.storage.context import Context
from serving import serve, timed

repo = Repo.from_path(os.getcwd(), init=True)


def _run() -> Run:
    return Run(repo=repo, system_tracking_interval=None, log_system_params=False, capture_terminal_logs=False)


def log(points: int) -> dict[str, float]:
    run = _run()
    run.track(0.5, name="warm")
    began = time.perf_counter()
    for step in range(points):
        run.track(0.5, name="loss", step=step)
    called = time.perf_counter()
    run.close()
    return {"calls": called - began, "settled": time.perf_counter() - began}


def keep(path: str) -> dict[str, float]:
    run = _run()
    run.set_artifacts_uri("file://" + os.path.abspath("kept"))
    seconds = timed(lambda: run.log_artifacts(path, block=True))
    run.close()
    shutil.rmtree("kept")
    return {"seconds": seconds}


def fill(points: int) -> dict[str, str]:
    run = _run()
    for step in range(points):
        run.track(step * 0.5, name="loss", step=step)
    run.close()
    return {"run": run.hash}


def index() -> None:
    """Make what was logged findable, as ``aim up`` does while it runs."""
    subprocess.run([str(Path(sys.executable).with_name("aim")), "storage", "reindex", "-y"], check=True)


def read(run: str, points: int) -> dict[str, float]:
    found: list[object] = []

    def values() -> None:
        _, series = Repo(os.getcwd()).get_run(run).get_metric("loss", Context({})).values.sparse_numpy()
        found.extend(series)

    seconds = timed(values)
    assert len(found) == points, len(found)
    return {"seconds": seconds}


def fill_runs(count: int) -> None:
    for number in range(count):
        run = _run()
        run["batch"] = str(number % 10)
        run["kind"] = "search"
        run.track(number / count, name="loss", step=0)
        run.close()


def search(batch: str, below: float, expected: int) -> dict[str, float]:
    wanted = f"run.kind == 'search' and run.batch == '{batch}' and metric.name == 'loss' and metric.last < {below}"
    found: list[object] = []
    seconds = timed(lambda: found.extend(Repo(os.getcwd()).query_metrics(wanted, report_mode=0).iter()))
    assert len(found) == expected, len(found)
    return {"seconds": seconds}


if __name__ == "__main__":
    serve(log=log, keep=keep, fill=fill, read=read, fill_runs=fill_runs, search=search,
          index=index)  # fmt: skip
