"""What a backup takes of runs that go on, of what is damaged, and when somebody stops it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control.conftest import InWorld
from control.world import World
from windlass.specs import spool
from windlass.specs.status import RunStatus
from windlassd.control.backups import Backups


async def made(world: World, folder: Path) -> Mapping[str, Any]:
    """The last thing that a backup tells."""
    lines = [line async for line in Backups(world.core).make(str(folder), None)]
    return lines[-1]


def rows(backup: str, query: str) -> list[Any]:
    with sqlite3.connect(os.path.join(backup, "workspace", "windlass.db")) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


def test_points_that_only_a_spool_has_and_files_that_grow_are_in_it(in_world: InWorld, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        content = b"code"
        sha256 = hashlib.sha256(content).hexdigest()
        world.core.blobs.put([content], sha256)
        await world.run("r", RunStatus.RUNNING)
        folder = world.core.folder("r")
        folder.make()
        os.makedirs(os.path.join(folder.work, "outputs"))
        Path(folder.work, "outputs", "x.txt").write_text("so far")
        Path(folder.work, "train.py").write_text("not kept")
        Path(folder.log("azureml-logs/70_driver_log.txt")).write_text("line\n")
        points = [spool.json_frame(0, i + 1, spool.NO_STEP, i) for i in range(5)]
        frames = spool.series_frame(0, {"name": "loss"}) + b"".join(points)
        Path(folder.spool, "1-a.spool").write_bytes(frames + b"torn")
        answer = await made(world, tmp_path)
        assert answer["manifest"]["unfinished"] == ["r"]
        root = answer["backup"]
        assert rows(root, "SELECT length FROM series") == [(5,)]
        ((status, code, message, ended),) = rows(root, "SELECT status, reason_code, reason_message, ended FROM runs")
        assert (status, code) == ("Failed", "restored") and message.endswith("it was Running then.") and ended
        assert rows(root, "SELECT path, sha256 FROM run_files ORDER BY path") == [
            ("azureml-logs/70_driver_log.txt", hashlib.sha256(b"line\n").hexdigest()),
            ("outputs/x.txt", hashlib.sha256(b"so far").hexdigest()),
        ]
        assert Path(root, "workspace/runs/r/files/outputs/x.txt").read_text() == "so far"
        assert os.listdir(Path(root, "workspace/runs/r")) == ["files"]
        assert world.get("r").status is RunStatus.RUNNING
        assert world.core.read(lambda tx: tx.series_of("r")) == (), "the workspace itself is left alone"

    in_world(work)


def test_what_the_workspace_has_lost_is_told_and_all_else_is_there(in_world: InWorld, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.run("r", RunStatus.FAILED)
        folder = world.core.folder("r")
        folder.make()
        Path(folder.log("outputs/whole.txt")).write_text("whole")
        Path(folder.log("outputs/other.txt")).write_text("other")
        os.utime(folder.log("outputs/other.txt"), (1, 1))
        kept = [{"path": f"outputs/{name}.txt", "size": 5, "sha256": hashlib.sha256(name.encode()).hexdigest()}
                for name in ("whole", "gone", "other")]  # fmt: skip
        kept[2]["sha256"] = "0" * 64
        await world.core.write(lambda tx: tx.keep_files("r", kept))
        answer = await made(world, tmp_path)
        assert sorted(answer["manifest"]["incomplete"]) == [
            "The content " + "a" * 64 + ", which a snapshot or model has, is missing.",
            "r: the file 'outputs/gone.txt' is missing.",
            "r: the file 'outputs/other.txt' does not have the checksum on record.",
        ]
        assert Path(answer["backup"], "workspace/runs/r/files/outputs/whole.txt").read_text() == "whole"

    in_world(work)


def test_a_file_that_was_replaced_meanwhile_is_recorded_as_it_was_taken(in_world: InWorld, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.run("r", RunStatus.FAILED)
        folder = world.core.folder("r")
        folder.make()
        Path(folder.log("outputs/x.txt")).write_text("newer")
        os.utime(folder.log("outputs/x.txt"), (4e9, 4e9))  # written after the moment of the records
        said = {"path": "outputs/x.txt", "size": 5, "sha256": hashlib.sha256(b"older").hexdigest()}
        await world.core.write(lambda tx: tx.keep_files("r", [said]))
        answer = await made(world, tmp_path)
        newer = hashlib.sha256(b"newer").hexdigest()
        assert rows(answer["backup"], "SELECT sha256 FROM run_files") == [(newer,)]
        assert not [line for line in answer["manifest"]["incomplete"] if "x.txt" in line]

    in_world(work)


def test_who_stops_listening_stops_it_and_nothing_is_left(in_world: InWorld, tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.run("r", RunStatus.FAILED)
        world.core.folder("r").make()
        Path(world.core.folder("r").log("outputs/x")).write_bytes(bytes(50 << 20))
        lines = Backups(world.core).make(str(tmp_path), None)
        assert (await anext(lines))["phase"] == "records"
        await lines.aclose()
        async with world.core.freeing:  # it has let go
            assert os.listdir(tmp_path) == []
        server = os.path.join(world.dir, "server")
        assert [name for name in os.listdir(server) if name.startswith("backup-")] == []

    in_world(work)
