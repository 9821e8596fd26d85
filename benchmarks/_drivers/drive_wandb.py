"""Weights & Biases, offline: a file that a later ``wandb sync`` would send. Console and machine statistics are off."""

import shutil
import time

import wandb
from serving import serve

SETTINGS = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)


def log(points: int) -> dict[str, float]:
    run = wandb.init(project="bench", mode="offline", settings=SETTINGS, reinit="finish_previous")
    run.log({"warm": 0.5})
    began = time.perf_counter()
    for _ in range(points):
        run.log({"loss": 0.5})
    called = time.perf_counter()
    run.finish()
    return {"calls": called - began, "settled": time.perf_counter() - began}


def keep(path: str) -> dict[str, float]:
    run = wandb.init(project="bench", mode="offline", settings=SETTINGS, reinit="finish_previous")
    began = time.perf_counter()
    artifact = wandb.Artifact("kept", type="outputs")
    artifact.add_dir(path)
    run.log_artifact(artifact)
    run.finish()
    seconds = time.perf_counter() - began
    for folder in ("wandb", "artifacts", ".cache", ".local"):
        shutil.rmtree(folder, ignore_errors=True)
    return {"seconds": seconds}


if __name__ == "__main__":
    serve(log=log, keep=keep)
