"""Event streams of runs, and logs read while they grow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import World
from windlass.specs.status import RunStatus
from windlassd.blobs.run_folder import DRIVER_LOG, RunFolder
from windlassd.control import streams
from windlassd.control.streams import LogReader


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(str(tmp_path), "r")
    made.make()
    return made


def add(folder: RunFolder, data: bytes, name: str = DRIVER_LOG) -> None:
    with open(folder.log(name), "ab") as log:
        log.write(data)


def everything(reader: LogReader, final: bool = True) -> str:
    text = ""
    while pieces := reader.more(final):
        text += "".join(data["text"] for _, data in pieces)
    return text


def test_each_piece_says_where_it_lies(folder: RunFolder) -> None:
    reader = LogReader(folder, {})
    add(folder, b"one\n")
    assert reader.more(False) == [("log", {"file": DRIVER_LOG, "offset": 0, "next": 4, "text": "one\n"})]
    assert reader.more(False) == []
    add(folder, b"two\n")
    assert reader.more(False) == [("log", {"file": DRIVER_LOG, "offset": 4, "next": 8, "text": "two\n"})]


def test_a_reader_resumes_where_it_was(folder: RunFolder) -> None:
    add(folder, b"one\ntwo\n")
    assert everything(LogReader(folder, {DRIVER_LOG: 4})) == "two\n"
    assert everything(LogReader(folder, {DRIVER_LOG: 8})) == ""
    assert everything(LogReader(folder, {DRIVER_LOG: 800})) == ""


def test_characters_are_never_split(folder: RunFolder) -> None:
    reader, text, whole = LogReader(folder, {}), "", "ä€😀 done\n"
    for byte in whole.encode():
        add(folder, bytes([byte]))
        pieces = reader.more(False)
        assert all("\ufffd" not in data["text"] for _, data in pieces)
        text += "".join(data["text"] for _, data in pieces)
    assert text == whole


def test_an_unfinished_character_comes_at_the_end_only(folder: RunFolder) -> None:
    add(folder, "ok€".encode()[:-1])
    reader = LogReader(folder, {})
    assert everything(reader, final=False) == "ok"
    assert everything(reader, final=True) == "\ufffd"


def test_big_logs_come_in_pieces_whose_cuts_do_not_show(folder: RunFolder) -> None:
    whole = "€" * 100_000 + "\n"  # three bytes each: no piece ends at a character
    add(folder, whole.encode())
    reader = LogReader(folder, {})
    (first,) = reader.more(True)
    assert 0 < first[1]["next"] <= 65536
    assert first[1]["text"] + everything(reader) == whole


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_a_log_that_ends_with_a_piece(folder: RunFolder, extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_PIECE", 4)
    data = b"abcdef" + "€".encode()[: extra + 1]
    add(folder, data)
    assert everything(LogReader(folder, {})) == data.decode("utf-8", "replace")


def test_logs_come_in_the_order_of_their_names(folder: RunFolder) -> None:
    add(folder, b"driver")
    add(folder, b"build", "azureml-logs/20_image_build_log.txt")
    assert [data["text"] for _, data in LogReader(folder, {}).more(True)] == ["build", "driver"]


def test_no_log_yet(tmp_path: Path) -> None:
    assert LogReader(RunFolder(str(tmp_path), "absent"), {}).more(True) == []


def test_the_last_text_comes_before_the_final_record(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("r", RunStatus.RUNNING, target="local")
        folder = world.core.folder("r")
        folder.make()
        add(folder, b"first\n")
        seen: list[tuple[str, Any]] = []

        async def watch() -> None:
            async for name, data in streams.of_run(world.core, lambda: world.get("r"), "r", logs=True, offsets={}):
                seen.append((name, data))
                if name == "log" and "first" in data["text"]:
                    add(folder, b"last\n")
                    await world.core.write(lambda tx: tx.transition("r", RunStatus.COMPLETED, now=9.0, reason=None))
                    world.core.bus.touch("r", "run")

        await asyncio.wait_for(watch(), 20)
        assert [name for name, _ in seen] == ["run", "log", "log", "metrics", "files", "run", "end"]
        assert (seen[0][1]["status"], seen[2][1]["text"], seen[5][1]["status"]) == ("Running", "last\n", "Completed")
        assert seen[5][1]["history"] == [] and world.core.bus.subscribers == 0

    in_world(work)


def test_a_stream_tells_what_changed_and_only_that(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("r", RunStatus.RUNNING, target="local")
        stream = streams.of_run(world.core, lambda: world.get("r"), "r", logs=False, offsets={})
        assert (await anext(stream))[0] == "run"
        for kind in ("metrics", "files"):
            following = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            world.core.bus.touch("r", kind)
            assert (await following)[0] == kind
        await stream.aclose()

    in_world(work)


def test_all_runs_of_an_experiment(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        for run_id, experiment in (("a", "exp"), ("b", "other")):
            await world.run(run_id, target="local", experiment=experiment)
        stream = streams.of_runs(world.core, "other", world.get)
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        world.core.bus.touch("a", "run")
        world.core.bus.touch("b", "run")
        name, data = await following
        assert (name, data["id"]) == ("run", "b")
        await stream.aclose()

    in_world(work)


def test_silence_is_broken_by_a_keep_alive(in_world: InWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.001)

    async def work(world: World) -> None:
        await world.run("r", RunStatus.RUNNING, target="local")
        stream = streams.of_run(world.core, lambda: world.get("r"), "r", logs=False, offsets={})
        assert [(await anext(stream))[0] for _ in range(2)] == ["run", "keep-alive"]
        await stream.aclose()

    in_world(work)
