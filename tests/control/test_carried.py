"""What clients logged into runs they are no part of, brought in at a start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from control.conftest import InWorld
from control.world import World
from windlass.specs import spool as spool_format
from windlass.specs.status import RunStatus
from windlassd.control import carried

NOBODY = "999999999"


def points(*values: int) -> bytes:
    head = spool_format.series_frame(0, {"name": "loss"}) if values[0] == 0 else b""
    return head + b"".join(spool_format.json_frame(0, value, value, value) for value in values)


async def logged(world: World, name: str, data: bytes, run_id: str = "r") -> Path:
    """An ended run, and a spool file that a process left for it."""
    if world.core.read(lambda tx: tx.find_run(run_id)) is None:
        await world.run(run_id, RunStatus.RUNNING, RunStatus.FINALIZING, RunStatus.COMPLETED)
    folder = Path(world.dir, "clients", run_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


def held(world: World) -> list[object]:
    return [value for series in world.core.read(lambda tx: tx.series("r")) for value in series.values]


def test_the_spool_of_a_dead_process_is_added_and_removed(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        folder = await logged(world, f"{NOBODY}-1.spool", points(0, 1, 2))
        await carried.bring_in(world.core, world.events.ingest)
        assert held(world) == [0, 1, 2] and not folder.exists()

    in_world(work)


def test_that_of_a_living_one_stays_for_what_it_adds(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        folder = await logged(world, f"{os.getpid()}-1.spool", points(0, 1))
        await carried.bring_in(world.core, world.events.ingest)
        assert held(world) == [0, 1] and folder.exists()

    in_world(work)


def test_what_a_process_adds_as_its_last_act_while_this_reads_stays(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(world: World) -> None:
        folder = await logged(world, f"{NOBODY}-1.spool", points(0, 1))
        path, lives = folder / f"{NOBODY}-1.spool", [True]
        monkeypatch.setattr(carried, "_lives", lambda name: lives[0])

        async def add_and_die(*arguments: object) -> None:
            await original(world.core, world.events.ingest, "r", path.name, str(path))
            with open(path, "ab") as spool:
                spool.write(points(2))
            lives[0] = False

        original = carried._add
        monkeypatch.setattr(carried, "_add", add_and_die)
        await carried.bring_in(world.core, world.events.ingest)
        monkeypatch.setattr(carried, "_add", original)
        await carried.bring_in(world.core, world.events.ingest)
        assert held(world) == [0, 1, 2] and not folder.exists()

    in_world(work)


def test_a_file_that_cannot_be_read_keeps_nobody_from_starting(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        folder = await logged(world, f"{NOBODY}-2.spool", points(0, 1))
        (folder / "odd").mkdir()
        (folder / f"{NOBODY}-1.spool").mkdir()  # no file at all
        await carried.bring_in(world.core, world.events.ingest)
        assert held(world) == [0, 1] and folder.exists()

    in_world(work)
