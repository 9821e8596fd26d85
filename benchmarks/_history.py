"""A history of many runs, filled in below the server: a thousand runs by the store, the others as copies in SQL.

The runs are such as users leave: 20 experiments, eight tags and properties, an environment, a life of five statuses,
nine in ten of them completed, and five series of 20 points each, whose values differ from run to run.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from functools import partial

from windlass.specs.environment import EnvironmentSpec
from windlass.specs.run import Reason, RunSpec
from windlass.specs.spool import FLOAT, SERIES, Frame
from windlass.specs.status import RunStatus
from windlassd.store.base import Writer
from windlassd.store.sql import FILE, SqlStore

EXPERIMENTS, POINTS = 20, 20
METRICS = ("loss", "accuracy", "val/loss", "val/accuracy", "seconds per epoch")
_MADE = 1000
_DAY_US = 86_400_000_000
_LIFE = (RunStatus.PREPARING, RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.FINALIZING)


def fill(workspace_dir: str, count: int) -> None:
    """Make the workspace's database with ``count`` ended runs (1,000, or a multiple of it), the newest a minute old."""
    if count % _MADE:
        raise ValueError(f"{count} runs: make a multiple of {_MADE}")
    store = SqlStore.open(workspace_dir)
    chance, began = random.Random(4), time.time() - 60 - count
    for number in range(_MADE):
        store.write(partial(_make, number, began + number, chance))
    store.write(lambda w: w.set_meta("created", str(began))).result()
    store.close()
    with closing(sqlite3.connect(os.path.join(workspace_dir, FILE), isolation_level=None)) as database:
        database.execute("PRAGMA synchronous=OFF")  # how it was filled is not measured
        database.execute("BEGIN IMMEDIATE")
        for copy in range(1, count // _MADE):
            _copy(database, copy)
        database.execute("UPDATE experiments SET runs = (SELECT count(*) FROM runs WHERE experiment_id = id)")
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA optimize=0x10002")


def _make(number: int, now: float, chance: random.Random, writer: Writer) -> None:
    run_id = f"study-{number % EXPERIMENTS}_{int(now)}_{number:08x}"
    writer.create_run(run_id, _spec(number), now=now)
    for step, status in enumerate(_LIFE):
        writer.transition(run_id, status, now=now + step / 10, reason=Reason(str(status).lower(), f"It is {status}."))
    writer.update_run(run_id, nodes=["local-0"], environment={"key": "0" * 64, "builder": "venv", "cached": True},
                      exit_code=0 if number % 10 else 1, verified=True)  # fmt: skip
    end = RunStatus.COMPLETED if number % 10 else RunStatus.FAILED
    writer.transition(run_id, end, now=now + 1, reason=Reason("completed", "Every process ended with exit code 0."))
    frames = [Frame(SERIES, place, 0, None, {"name": name}) for place, name in enumerate(METRICS)]
    for step in range(POINTS):
        time_us = round((now + step / 100) * 1e6)
        frames += [Frame(FLOAT, place, time_us, step, chance.random()) for place in range(len(METRICS))]
    writer.append(run_id, "0.spool", 0, 41 * len(frames), frames)
    writer.keep_files(run_id, [{"path": f"outputs/{name}", "size": 1000, "sha256": "0" * 64} for name in "abc"])


def _spec(number: int) -> RunSpec:
    return RunSpec(
        experiment=f"study-{number % EXPERIMENTS}", script="train.py", snapshot_id="0" * 64, target="gpucluster",
        arguments=("--learning-rate", str(number / 1000), "--batch-size", "64", "--model", f"net-{number % 7}"),
        environment=EnvironmentSpec(name="study", pip_packages=("scikit-learn==1.5.0", "pandas", "matplotlib")),
        tags={"model": f"net-{number % 7}", "seed": str(number % 100), "owner": "ada", "purpose": "growth"},
        properties={"dataset": "digits", "split": "0.2", "code": "3f2a", "stage": "search"},
        source_directory="/home/ada/study", submitted_by="ada", git={"commit": "0" * 40, "branch": "main"},
    )  # fmt: skip


def _copy(database: sqlite3.Connection, copy: int) -> None:
    """Every one of the first thousand runs once more, with other values, older than all that are there."""
    row = {"n": copy * _MADE, "us": copy * _MADE * 1_000_000, "copy": copy}
    shift = {name: database.execute(f"SELECT max(id) FROM {name}").fetchone()[0] for name in ("spools", "series")}
    runs, spools, series = "seq <= 1000", "run_seq <= 1000", "run_seq <= 1000"
    columns = [name for _, name, *_ in database.execute("PRAGMA table_info(runs)")]
    changed = {"seq": "seq + :n", "id": "id || '_' || :copy", "number": f"number + :n / {EXPERIMENTS}",
               "created": "created + :us", "started": "started + :us", "ended": "ended + :us"}  # fmt: skip
    chosen = ", ".join(changed.get(name, name) for name in columns)
    database.execute(f"INSERT INTO runs SELECT {chosen} FROM runs WHERE {runs}", row)
    for table in ("run_specs", "run_tags", "run_files"):
        names = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")][1:]
        chosen = ", ".join(["run_seq + :n", *names])
        database.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE run_seq <= 1000", row)
    database.execute(
        "INSERT INTO run_history (run_seq, time, status, reason_code, reason_message) SELECT run_seq + :n, time + :us,"
        " status, reason_code, reason_message FROM run_history WHERE run_seq <= 1000 ORDER BY id", row,
    )  # fmt: skip
    row.update(spools=shift["spools"], series=shift["series"])
    database.execute(
        "INSERT INTO spools SELECT id + :spools, run_seq + :n, name, acked, batches, last_us FROM spools"
        f" WHERE {spools}",
        row,
    )
    other = "abs(random() / 9223372036854775808.0)"
    database.execute(
        "INSERT INTO series SELECT id + :series, run_seq + :n, name, type, length, last_us, last_step,"
        f" {other}, minimum * {other}, maximum FROM series WHERE {series}", row,
    )  # fmt: skip
    database.execute(
        "INSERT INTO spool_series SELECT spool_id + :spools, number, series_id + :series FROM spool_series"
        " WHERE spool_id IN (SELECT id FROM spools WHERE run_seq <= 1000)", row,
    )  # fmt: skip
    database.execute(
        "INSERT INTO chunks (series_id, spool_id, sealed, length, kind, times, steps, points) SELECT"
        " series_id + :series, spool_id + :spools, sealed, length, kind, times, steps, points FROM chunks"
        " WHERE series_id IN (SELECT id FROM series WHERE run_seq <= 1000)", row,
    )  # fmt: skip
