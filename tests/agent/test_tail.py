"""The tail notices at once that something of a run grew; each test waits for the call, never for time."""

from __future__ import annotations

import os
import queue
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.launch import PartKey
from windlassd.agent.tail import Grew, Tail
from windlassd.blobs.run_folder import RunFolder

PART = ("run_1", 1, 0)
Told = queue.Queue[tuple[PartKey, Grew]]


@pytest.fixture
def told() -> Told:
    return queue.Queue()


@pytest.fixture
def tail(told: Told, folder: RunFolder) -> Iterator[Tail]:
    made = Tail(lambda part, kind: told.put((part, kind)))
    made.watch(PART, folder)
    yield made
    made.forget(PART)


def grew(told: Told, kind: Grew, part: PartKey = PART) -> None:
    """Until the tail tells of it; other news before it may come."""
    while told.get(timeout=10) != (part, kind):
        pass


def empty(told: Told) -> None:
    while not told.empty():
        told.get()


def test_each_kind(tail: Tail, told: Told, folder: RunFolder) -> None:
    for kind, path in (
        (Grew.SPOOL, f"{folder.spool}/1.spool"),
        (Grew.LOGS, folder.log("azureml-logs/70_driver_log.txt")),
        (Grew.FILES, f"{folder.work}/outputs/model.bin"),
        (Grew.FILES, f"{folder.work}/logs/note.txt"),
    ):
        Path(path).write_text("new")
        grew(told, kind)


def test_appending_is_noticed_every_time(tail: Tail, told: Told, folder: RunFolder) -> None:
    with open(f"{folder.spool}/1.spool", "ab", buffering=0) as spool:
        grew(told, Grew.SPOOL)
        for _ in range(5):
            empty(told)
            spool.write(b"frame")
            grew(told, Grew.SPOOL)


def test_a_new_folder_in_outputs_is_watched(tail: Tail, told: Told, folder: RunFolder) -> None:
    new = Path(folder.work, "outputs", "epoch1")
    new.mkdir()
    grew(told, Grew.FILES)
    empty(told)
    (new / "weights.bin").write_text("w")
    grew(told, Grew.FILES)


def test_a_tree_that_was_there_before_the_watch_is_watched_whole(
    tail: Tail, told: Told, folder: RunFolder, tmp_path: Path
) -> None:
    beside = tmp_path / "tree"
    (beside / "a" / "b").mkdir(parents=True)
    os.rename(beside, Path(folder.work, "outputs", "tree"))
    grew(told, Grew.FILES)
    empty(told)
    Path(folder.work, "outputs", "tree", "a", "b", "deep.txt").write_text("deep")
    grew(told, Grew.FILES)


def test_a_removed_folder_hurts_nobody(tail: Tail, told: Told, folder: RunFolder) -> None:
    shutil.rmtree(f"{folder.work}/outputs")
    grew(told, Grew.FILES)
    empty(told)
    Path(f"{folder.work}/logs/note.txt").write_text("still there")
    grew(told, Grew.FILES)
    tail.watch(PART, folder)  # an absent folder is passed over
    tail.forget(PART)


def test_a_forgotten_run_is_quiet_and_others_go_on(tail: Tail, told: Told, folder: RunFolder, home: Path) -> None:
    other = RunFolder(str(home / "workspaces" / "ws"), "run_2")
    other.make()
    tail.watch("run_2", other)
    tail.forget(PART)
    tail.forget("nobody")
    Path(folder.spool, "1.spool").write_text("x")
    Path(other.spool, "1.spool").write_text("x")
    assert told.get(timeout=10) == ("run_2", Grew.SPOOL)
