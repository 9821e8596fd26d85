"""Runs that a client's process holds, as the server sees them: begun, held, left and lost, once and over restarts."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import World, statuses
from windlass._session import owner
from windlass._spools import write_end
from windlass.errors import UserErrorException
from windlass.specs import spool as spool_format
from windlass.specs.run import Reason, RunRecord
from windlass.specs.status import RunStatus
from windlassd.control import interactive
from windlassd.control.interactive import Interactive
from windlassd.store.base import Conflict

S = RunStatus
NOBODY = {"pid": 999_999_999, "started": "1", "boot": "x"}
SPEC = {"experiment": "exp", "script": "", "snapshot_id": "", "target": "sdk"}


def asked(about: Any = None, request_id: str = "q", **more: Any) -> dict[str, Any]:
    """A client's call that begins a run."""
    return {"request_id": request_id, "spec": SPEC, "line": "line", "owner": about or owner(), **more}


def points(*values: int) -> bytes:
    head = spool_format.series_frame(0, {"name": "loss"})
    return head + b"".join(spool_format.json_frame(0, value, value, value) for value in values)


def held(world: World, run_id: str) -> list[object]:
    return [value for series in world.core.read(lambda tx: tx.series(run_id)) for value in series.values]


def with_interactive(in_world: InWorld, work: Callable[[World, Interactive], Awaitable[None]]) -> None:
    async def whole(world: World) -> None:
        control = Interactive(world.core, world.events.ingest, world.verified.append)
        try:
            await work(world, control)
        finally:
            control.close()

    in_world(whole)


async def ended(world: World, run_id: str) -> RunRecord:
    return await world.until(run_id, lambda run: run.status.final)


def test_a_repeated_begin_is_the_same_run(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        first, spool = await control.begin(asked())
        again, same = await control.begin(asked())
        assert (first.id, spool) == (again.id, same) and first.status is S.RUNNING and os.path.isdir(spool)
        with pytest.raises(Conflict, match="There is a run"):
            await control.begin(asked(request_id="other", run_id=first.id))
        with pytest.raises(UserErrorException, match="cannot be a run's id"):
            await control.begin(asked(request_id="third", run_id="a/b"))

    with_interactive(in_world, work)


def test_the_run_of_a_process_that_is_gone_is_failed_with_what_it_logged(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        record, spool = await control.begin(asked(NOBODY))
        Path(spool, "1-1.spool").write_bytes(points(0, 1, 2))
        run = await ended(world, record.id)
        assert (run.status, run.reason and run.reason.code) == (S.FAILED, "client_process_ended")
        assert "NotResponding" in statuses(world.get(record.id)) and held(world, record.id) == [0, 1, 2]

    with_interactive(in_world, work)


def test_what_a_lost_process_wrote_is_told_from_what_lay_there_whatever_the_clock_said(
    in_world: InWorld, tmp_path: Path
) -> None:
    """The clock may be set back while it works, and an earlier run's files may bear times of the future."""

    def wrote(name: str, text: str, mtime: float) -> None:
        path = tmp_path / "outputs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (mtime, mtime))

    async def work(world: World, control: Interactive) -> None:
        for name in ("old.txt", "overwritten.txt"):
            wrote(name, "of an earlier run", time.time() + 1000)
        record, _ = await control.begin(asked(NOBODY, folder=str(tmp_path)))
        wrote("new.txt", "mine", 1000.0)
        wrote("overwritten.txt", "mine as well", 1000.0)
        await ended(world, record.id)
        folder = world.core.folder(record.id)
        assert [file["path"] for file in folder.list()] == ["outputs/new.txt", "outputs/overwritten.txt"]
        assert Path(folder.get("outputs/new.txt")).read_text() == "mine"

    with_interactive(in_world, work)


def killed_at_begin(
    monkeypatch: pytest.MonkeyPatch, request_id: str
) -> Callable[[World, Interactive], Awaitable[None]]:  # fmt: skip
    """A server that dies between the record of a run and the note of who holds it."""

    def dies(*arguments: object) -> None:
        raise OSError("here the server is killed")

    async def work(world: World, control: Interactive) -> None:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="is killed"):
            patch.setattr(interactive, "_make_folder", dies)
            await control.begin(asked(request_id=request_id))

    return work


def test_a_begin_whose_owner_the_killed_server_had_not_noted_is_waited_for(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client repeats the call: its run must not be Failed before that."""

    async def work(world: World, control: Interactive) -> None:
        (record,) = world.core.read(lambda tx: tx.active_runs())
        control.resume()
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.get(record.id).status is S.RUNNING
        again, _ = await control.begin(asked())
        assert again.id == record.id
        assert (await control.end(record.id, S.COMPLETED)).status is S.COMPLETED

    with_interactive(in_world, killed_at_begin(monkeypatch, "q"))
    with_interactive(in_world, work)


def test_a_begin_that_is_never_repeated_is_given_up(in_world: InWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World, control: Interactive) -> None:
        monkeypatch.setattr(interactive, "_BEGIN_S", 0.05)
        (record,) = world.core.read(lambda tx: tx.active_runs())
        control.resume()
        assert (await ended(world, record.id)).status is S.FAILED

    with_interactive(in_world, killed_at_begin(monkeypatch, "q"))
    with_interactive(in_world, work)


@pytest.mark.parametrize("lives", [True, False], ids=["its process lives on", "its process is gone"])
def test_an_end_that_was_left_on_disk_is_carried_out_with_its_time(in_world: InWorld, lives: bool) -> None:
    folder: list[str] = []

    async def before(world: World, control: Interactive) -> None:
        record, spool = await control.begin(asked(owner() if lives else NOBODY))
        folder.append(spool)
        kept = Path(world.dir, "model.bin")
        kept.write_bytes(b"weights")
        Path(spool, "1-1.spool").write_bytes(points(0, 1))
        end = {"status": "Failed", "reason": {"code": "mine", "message": "It was me."}, "time": record.created + 0.001}
        write_end(spool, {**end, "files": [("outputs/model.bin", str(kept)), ("../x", str(kept))]})

    async def after(world: World, control: Interactive) -> None:
        (run_id,) = [r.id for r in world.core.read(lambda tx: tx.list_runs())]
        control.resume()
        run = await ended(world, run_id)
        assert (run.status, run.reason) == (S.FAILED, Reason("mine", "It was me."))
        assert run.ended == pytest.approx(run.created + 0.001, abs=1e-5) and run.ended < time.time()
        assert held(world, run_id) == [0, 1]
        kept = Path(world.core.folder(run_id).files, "outputs/model.bin")
        assert kept.read_bytes() == b"weights" and not os.path.exists(folder[0])

    with_interactive(in_world, before)
    with_interactive(in_world, after)


def test_a_held_run_whose_process_left_word_is_ended_over_the_open_line(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        record, spool = await control.begin(asked())
        write_end(spool, {"status": "Completed", "reason": None, "time": time.time(), "files": []})
        line = control.hold("line", [record.id], owner())
        assert [message async for message in line][-2:] == [{"ended": record.id}, {"exit": {}}]
        assert world.get(record.id).status is S.COMPLETED

    with_interactive(in_world, work)


def test_an_end_that_makes_no_sense_is_a_failure_and_not_a_run_for_ever(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        record, spool = await control.begin(asked(NOBODY))
        write_end(spool, {"status": "Splendid"})
        assert (await ended(world, record.id)).status is S.FAILED

    with_interactive(in_world, work)


def test_a_line_holds_its_runs_and_tells_of_their_end(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        record, _ = await control.begin(asked())
        line = control.hold("line", [record.id, "gone"], owner())
        assert await anext(line) == {"ended": "gone"}
        waiting = asyncio.ensure_future(anext(line))
        await asyncio.sleep(0)
        await control.cancel(record.id)
        assert await waiting == {"ended": record.id} and await anext(line) == {"exit": {}}
        assert statuses(world.get(record.id)) == ["NotStarted", "Running", "CancelRequested", "Canceled"]

    with_interactive(in_world, work)


def test_another_process_takes_a_run_over(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        record, spool = await control.begin(asked())
        line = control.hold("line", [record.id], owner())
        waiting = asyncio.ensure_future(anext(line))
        await asyncio.sleep(0)
        assert await control.take_over("other", record.id, owner()) == spool
        assert await waiting == {"taken": record.id}
        await control.end(record.id, S.COMPLETED)
        with pytest.raises(Conflict, match="cannot be taken over"):
            await control.take_over("third", record.id, owner())

    with_interactive(in_world, work)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes PID namespaces")
def elsewhere(job: str) -> dict[str, Any]:
    """A process on another machine: all that is known of it is whose script it is part of."""
    return {"run": job}


RUNS = (S.STARTING, S.QUEUED, S.RUNNING)


def test_a_process_elsewhere_without_a_line_is_gone_when_its_job_is_over(in_world: InWorld) -> None:
    async def work(world: World, control: Interactive) -> None:
        await world.run("job_1", *RUNS)
        record, _ = await control.begin(asked(elsewhere("job_1")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.get(record.id).status is S.RUNNING
        await world.core.write(lambda tx: tx.transition("job_1", S.FAILED, now=20.0, reason=Reason("x", "x.")))
        run = await ended(world, record.id)
        assert run.reason is not None
        assert (run.status, run.reason.code) == (S.FAILED, "client_process_ended")

    with_interactive(in_world, work)


def test_a_process_elsewhere_without_a_line_is_gone_while_its_job_answers(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "0.05")

    async def work(world: World, control: Interactive) -> None:
        await world.run("job_1", *RUNS)
        record, _ = await control.begin(asked(elsewhere("job_1")))
        assert (await ended(world, record.id)).status is S.FAILED

    with_interactive(in_world, work)


def test_a_process_elsewhere_is_waited_for_while_its_job_cannot_be_reached(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "0.05")

    async def work(world: World, control: Interactive) -> None:
        await world.run("job_1", *RUNS, S.NOT_RESPONDING)
        record, _ = await control.begin(asked(elsewhere("job_1")))
        await world.until(record.id, lambda run: run.status is S.NOT_RESPONDING)
        for _ in range(10):
            await asyncio.sleep(0)
        line = control.hold("line", [record.id], elsewhere("job_1"))
        waiting = asyncio.ensure_future(anext(line))
        assert (await world.until(record.id, lambda run: run.status is S.RUNNING)).id == record.id
        await control.end(record.id, S.COMPLETED)
        assert await waiting == {"ended": record.id}
        await line.aclose()

    with_interactive(in_world, work)


def test_a_process_in_a_container_is_known_by_its_namespace() -> None:
    tells = "import json; from windlass._session import owner; print(json.dumps(owner()), flush=True); input()"
    inside = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", tells],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert inside.stdout
    about = json.loads(inside.stdout.readline())
    assert about["pid"] == 1 and interactive._lives(about)
    assert not interactive._lives({**about, "pid": 2}) and not interactive._lives({**about, "started": "1"})
    inside.communicate(b"\n")
    assert not interactive._lives(about)
