"""A workspace as it looks after a day of training classifiers of handwritten digits: for pages, docs and pictures."""

from __future__ import annotations

import json
import math
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

from windlass.specs.cluster import ClusterSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.store.base import ModelRecord
from windlassd.testing.fake_backend import FakeBackend

EPOCHS = 240
DRIVER_LOG = "azureml-logs/70_driver_log.txt"
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
_SNAPSHOT = "5d41402abc4b2a76b9719d911017c592ae3f1c7b0d7b6e0f2c8b1d9e4f60a1b2"
_MESSAGES = {
    RunStatus.STARTING: Reason("starting", "The snapshot is complete."),
    RunStatus.PREPARING: Reason("environment_building", "Builds the environment: 6 packages for Python 3.11."),
    RunStatus.QUEUED: Reason("waiting_for_nodes", "1st in line on gpucluster, waits for 1 node, 0 free."),
    RunStatus.RUNNING: Reason("running", "Runs on gpucluster-0."),
    RunStatus.FINALIZING: Reason("finalizing", "Verifies what the script left in outputs."),
    RunStatus.COMPLETED: Reason("completed", "The script ended with exit code 0."),
}


def digits_workspace(folder: Path, now: float) -> tuple[FakeBackend, str]:
    """The workspace and the id of its run that is training at ``now``."""
    backend = FakeBackend(folder)
    chance = random.Random(7)
    for place in range(34, 0, -1):
        _old_run(backend, chance, now - 1500 - place * 1830, place)
    live = _training_run(backend, now)
    queued = _run("digits-sweep", 10, now - 118, hidden=512)
    backend.add_run(queued)
    backend.move(queued.id, RunStatus.STARTING, now - 117.9)
    backend.move(
        queued.id,
        RunStatus.QUEUED,
        now - 117.2,
        Reason("waiting_for_nodes", "1st in line on gpucluster, waits for 2 nodes, 1 free."),
    )
    backend.compute_targets = [
        _compute(ClusterSpec("gpucluster", vm_size="STANDARD_NC6", max_nodes=2), current=2, idle=1, busy=1, waiting=1),
        _compute(ClusterSpec("local", max_nodes=4), current=4, idle=4, busy=0, waiting=0),
    ]
    return backend, live.id


def train_more(backend: FakeBackend, run_id: str, epoch: int, now: float) -> None:
    """One more epoch of the run that trains: its metrics and its lines."""
    chance = random.Random(epoch)
    train = 2.1 * math.exp(-epoch / 38) + 0.035 + chance.gauss(0, 0.012) * math.exp(-epoch / 160)
    valid = 2.0 * math.exp(-epoch / 42) + 0.092 + 0.00022 * epoch + chance.gauss(0, 0.018)
    accuracy = 0.974 - 0.82 * math.exp(-epoch / 26) + chance.gauss(0, 0.004)
    rate = 0.02 * 0.5 ** (epoch // 60)
    for name, value in (
        ("train_loss", max(train, 0.02)),
        ("val_loss", valid if epoch != 97 else math.nan),
        ("val_accuracy", min(accuracy, 0.985)),
        ("learning_rate", rate),
        ("images_per_second", 8400 + chance.gauss(0, 320) - (2600 if epoch % 50 == 49 else 0)),
        ("gradient_norm", math.inf if epoch == 12 else 3.2 * math.exp(-epoch / 70) + abs(chance.gauss(0, 0.22)) + 0.1),
    ):
        backend.log_metric(run_id, name, value, now, epoch)
    bar = "".join(f"\repoch {epoch:3d}  {'█' * n}{'·' * (20 - n)} {n * 5:3d} %" for n in range(0, 21, 5))
    mark = "\x1b[32m▲\x1b[0m" if epoch % 9 == 0 else " "
    line = f"\repoch {epoch:3d}  loss {train:.4f}  val_loss {valid:.4f}  val_acc {accuracy:.4f} {mark}        \n"
    backend.write(run_id, DRIVER_LOG, (bar + line).encode(), append=True)


def _training_run(backend: FakeBackend, now: float) -> RunRecord:
    run = replace(_run("digits", 27, now - 262, hidden=256), environment=_chosen(cached=False), nodes=("gpucluster-0",))
    backend.add_run(run)
    backend.move(run.id, RunStatus.STARTING, now - 261.8, _MESSAGES[RunStatus.STARTING])
    backend.move(run.id, RunStatus.PREPARING, now - 261.5, _MESSAGES[RunStatus.PREPARING])
    backend.move(run.id, RunStatus.QUEUED, now - 249.0, _MESSAGES[RunStatus.QUEUED])
    backend.move(run.id, RunStatus.RUNNING, now - 226.0, _MESSAGES[RunStatus.RUNNING])
    _write_files(backend, run.id)
    for epoch in range(EPOCHS):
        train_more(backend, run.id, epoch, now - 222.0 + epoch * 0.9)
    backend.log_metric(run.id, "train_images", 1437, now - 224)
    backend.log_metric(run.id, "confusion_matrix", {"classes": list(range(10))}, now - 10)
    return run


def _old_run(backend: FakeBackend, chance: random.Random, created: float, place: int) -> None:
    sweep = place % 4 == 1
    number = 9 - place // 4 if sweep else 26 - place * 3 // 4
    run = _run("digits-sweep" if sweep else "digits", number, created, hidden=32 << place % 5)
    length = chance.uniform(8, 400)
    backend.add_run(replace(run, environment=_chosen(cached=True), nodes=(f"gpucluster-{place % 2}",)))
    backend.move(run.id, RunStatus.STARTING, created + 0.1)
    if place == 9:
        no_package = "There is no package scikit-lern. Did you mean scikit-learn? Change pip_packages and submit again."
        backend.move(run.id, RunStatus.PREPARING, created + 0.2)
        backend.move(run.id, RunStatus.FAILED, created + 1.1, Reason("environment_unsolvable", no_package))
        return
    backend.move(run.id, RunStatus.RUNNING, created + 0.3, _MESSAGES[RunStatus.RUNNING])
    if place % 7 == 3:
        crash = "Rank 0 on gpucluster-0 failed first, with exit code 1: ValueError: Input X contains NaN."
        backend.add_run(replace(backend.get_run(run.id), exit_code=1))
        backend.write(run.id, DRIVER_LOG, b"Traceback (most recent call last):\nValueError: Input X contains NaN.\n")
        backend.move(run.id, RunStatus.FAILED, created + length / 9, Reason("script_failed", crash))
    elif place % 11 == 5:
        backend.move(run.id, RunStatus.CANCEL_REQUESTED, created + length / 2)
        backend.move(run.id, RunStatus.CANCELED, created + length / 2 + 1, Reason("canceled", "Canceled by ana."))
    else:
        backend.move(run.id, RunStatus.FINALIZING, created + length, _MESSAGES[RunStatus.FINALIZING])
        backend.move(run.id, RunStatus.COMPLETED, created + length + 0.2, _MESSAGES[RunStatus.COMPLETED])
        if place % 5 == 2:
            _register(backend, run, created + length, place)


def _run(experiment: str, number: int, created: float, hidden: int) -> RunRecord:
    token = f"{zlib.crc32(f'{experiment}{number}'.encode()):08x}"
    spec = RunSpec(
        experiment=experiment,
        script="train.py",
        snapshot_id=_SNAPSHOT,
        target="gpucluster",
        arguments=("--epochs", str(EPOCHS + 60), "--hidden", str(hidden), "--learning-rate", "0.02", "--shuffle"),
        environment=EnvironmentSpec(
            name="digits", python_version="3.11", pip_packages=("scikit-learn==1.7.2", "numpy", "joblib", "onnx")
        ),
        environment_variables={"OMP_NUM_THREADS": "2"},
        framework="SKLearn",
        source_directory="/home/ana/digits",
        git={"commit": "9f2c1e7a40b7d0f5c3e8", "branch": "wider-layers", "dirty": "true"},
        submitted_by="ana",
    )
    return RunRecord(
        id=f"{experiment}_{int(created)}_{token}",
        experiment=experiment,
        number=number,
        status=RunStatus.NOT_STARTED,
        spec=spec,
        created=created,
        tags={"hidden": str(hidden), "owner": "ana", **({"baseline": ""} if hidden == 64 else {})},
        history=({"time": created, "status": "NotStarted", "reason": None},),
    )


def _chosen(cached: bool) -> dict[str, object]:
    key = "c0ffee5d41402abc"
    return {
        "key": key,
        "builder": "venv",
        "python": "/home/ana/envs/bin/python",
        "python_version": "3.11.7",
        "cached": cached,
        "seconds": 0.006 if cached else 12.4,
    }


def _register(backend: FakeBackend, run: RunRecord, created: float, place: int) -> None:
    backend.write(run.id, "outputs/model.joblib", b"\x80\x04" + bytes(184_320))
    backend.add_model(
        ModelRecord(
            name="digits-mlp",
            version=len(backend.models("digits-mlp")) + 1,
            created=created,
            run_id=run.id,
            path="outputs/model.joblib",
            tags={"accuracy": f"0.9{60 + place % 20}"},
            framework="ScikitLearn",
            framework_version="1.7.2",
            size=184_322,
            sha256="0" * 64,
            files=({"path": "model.joblib", "size": 184_322, "sha256": "0" * 64},),
        )
    )


def _compute(spec: ClusterSpec, *, current: int, idle: int, busy: int, waiting: int) -> dict[str, object]:
    capacity = {"target": current, "current": current, "idle": idle, "busy": busy}
    return {"spec": spec, "created": 0.0, "modified": 0.0, "capacity": capacity, "waiting": waiting}


def _write_files(backend: FakeBackend, run_id: str) -> None:
    build = (
        "Resolved 6 packages in 312 ms\nPrepared 6 packages in 4.1 s\nInstalled 6 packages in 402 ms\n"
        + "".join(f" \x1b[32m+\x1b[0m \x1b[1m{p}\x1b[0m\n" for p in ("joblib==1.5.2", "numpy==2.3.4", "onnx==1.23.0"))
        + " \x1b[32m+\x1b[0m \x1b[1mscikit-learn==1.7.2\x1b[0m\n"
    )
    hello = (
        "Loading scikit-learn's digits: 1,797 images of 8x8 pixels, 10 classes\n"
        "1,437 to train, 360 to validate; MLPClassifier(hidden_layer_sizes=(256,))\n"
        "\x1b[33mwarning:\x1b[0m images are not scaled to unit variance\n"
    )
    report = {"classes": 10, "train": 1437, "validate": 360, "hidden": 256}
    backend.write(run_id, BUILD_LOG, build.encode())
    backend.write(run_id, DRIVER_LOG, hello.encode())
    backend.write(run_id, "outputs/checkpoints/epoch-200.joblib", b"\x80\x04" + bytes(183_004))
    backend.write(run_id, "outputs/confusion.png", _picture())
    backend.write(run_id, "outputs/data.json", json.dumps(report, indent=2).encode())
    backend.write(run_id, "outputs/model.joblib", b"\x80\x04" + bytes(184_320))
    backend.write(run_id, "logs/profile.csv", b"epoch,seconds\n" + b"".join(b"%d,0.9\n" % n for n in range(EPOCHS)))


def _picture(side: int = 160) -> bytes:
    """A small PNG: the diagonal of a good confusion matrix."""
    rows = b"".join(
        b"\0" + bytes(235 - 190 * (x * 10 // side == y * 10 // side) for x in range(side)) for y in range(side)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
