"""MLflow, on its SQLite database directly or through its server: ``MLFLOW_TRACKING_URI`` says which."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
from drive_bare import watched
from mlflow.entities import Metric, RunTag
from serving import serve, timed

BATCH = 1000  # the most that log_batch takes
client = mlflow.MlflowClient()


def log(points: int, how: str) -> dict[str, float]:
    with mlflow.start_run() as run:
        mlflow.log_metric("warm", 0.5)
        began = time.perf_counter()
        if how == "batch":
            for start in range(0, points, BATCH):
                now = int(time.time() * 1000)
                rows = [Metric("loss", 0.5, now, step) for step in range(start, min(start + BATCH, points))]
                client.log_batch(run.info.run_id, metrics=rows)
        else:
            for step in range(points):
                mlflow.log_metric("loss", 0.5, step=step, synchronous=how == "one")
        called = time.perf_counter()
        if how == "async":
            mlflow.flush_async_logging()
        return {"calls": called - began, "settled": time.perf_counter() - began}


def submit(script: str) -> dict[str, float]:
    project = os.path.dirname(script)
    command = f"{sys.executable} {os.path.basename(script)}"
    Path(project, "MLproject").write_text(f"name: bench\nentry_points:\n  main:\n    command: {command}\n")
    mlflow_run = [str(Path(sys.executable).with_name("mlflow")), "run", project, "--env-manager", "local"]
    return watched(mlflow_run)


def keep(path: str) -> dict[str, float]:
    with mlflow.start_run() as run:
        seconds = timed(lambda: mlflow.log_artifacts(path, "kept"))
        place = urlparse(run.info.artifact_uri)
    if place.scheme in ("", "file"):
        shutil.rmtree(unquote(place.path))
    else:
        shutil.rmtree(os.path.join(os.environ["BENCH_ARTIFACTS"], run.info.experiment_id, run.info.run_id))
    return {"seconds": seconds}


def fill(points: int) -> dict[str, str]:
    with mlflow.start_run() as run:
        for start in range(0, points, BATCH):
            rows = [Metric("loss", step * 0.5, 1_700_000_000_000 + step, step) for step in range(start, start + BATCH)]
            client.log_batch(run.info.run_id, metrics=rows)
        return {"run": run.info.run_id}


def read(run: str, points: int) -> dict[str, float]:
    found: list[Metric] = []
    seconds = timed(lambda: found.extend(client.get_metric_history(run, "loss")))
    assert len(found) == points, len(found)
    return {"seconds": seconds}


def fill_runs(count: int) -> None:
    experiment = client.create_experiment("search")
    for number in range(count):
        run = client.create_run(experiment)
        metrics = [Metric("loss", number / count, 1_700_000_000_000, 0)]
        client.log_batch(run.info.run_id, metrics=metrics, tags=[RunTag("batch", str(number % 10))])


def search(batch: str, below: float, expected: int) -> dict[str, float]:
    experiment = client.get_experiment_by_name("search").experiment_id
    wanted = f"tags.batch = '{batch}' and metrics.loss < {below}"
    found: list[object] = []
    seconds = timed(lambda: found.extend(client.search_runs([experiment], filter_string=wanted)))
    assert len(found) == expected, len(found)
    return {"seconds": seconds}


def serve_http(database: str, artifacts: str, port: int) -> None:
    """Start the tracking server and wait until it answers; it ends with this worker."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--host", "127.0.0.1",
               "--port", str(port), "--artifacts-destination", artifacts, "--workers", "1"]  # fmt: skip
    servers.append(subprocess.Popen(command, start_new_session=True))
    while servers[-1].poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"mlflow server ended with {servers[-1].returncode}")


servers: list["subprocess.Popen[bytes]"] = []

if __name__ == "__main__":
    try:
        serve(log=log, submit=submit, keep=keep, fill=fill, read=read, fill_runs=fill_runs, search=search,
              serve_http=serve_http)  # fmt: skip
    finally:
        for server in servers:
            os.killpg(server.pid, 9)
            server.wait()
