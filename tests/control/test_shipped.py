"""Pieces of files as they come, twice, broken off, wrong, or from who has been given up."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from windlass.errors import ServiceUnavailable, UserErrorException
from windlassd.blobs import shipped as files_of
from windlassd.blobs.run_folder import RunFolder
from windlassd.blobs.shipped import PIECE_BYTES, Arriving, entry
from windlassd.control.bus import Bus
from windlassd.control.core import Core
from windlassd.control.shipped import Piece, Shipped

KEY = ("run_1", 1, 0)
LOG = "azureml-logs/70_driver_log.txt"


class Place:
    """A server's part that takes files; ``again`` is the one that comes after a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = Bus()
        self.runs = {"run_1": SimpleNamespace(attempt=1, nodes=())}
        found = SimpleNamespace(find_run=self.runs.get)
        core = SimpleNamespace(workspace_dir=str(folder), bus=self.bus, read=lambda work: work(found))
        self.shipped = Shipped(cast(Core, core))

    def again(self) -> Place:
        self.shipped.close()
        return Place(self.folder)

    def kept(self, key: tuple[str, int, int] = KEY) -> dict[str, bytes]:
        root = Path(RunFolder(str(self.folder), key[0], key[2]).files)
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    async def log(self, offset: int, body: bytes, **more: Any) -> Any:
        return await self.shipped.add(KEY, Piece(LOG, offset, **more), chunks(body))

    async def whole(self, content: bytes, start: int, end: int, **more: Any) -> Any:
        """The bytes of a file from ``start`` to ``end``."""
        told = {"version": "v1", "sha256": hashlib.sha256(content).hexdigest() if end == len(content) else "", **more}
        return await self.shipped.add(
            KEY, Piece("outputs/a", start, total=len(content), **told), chunks(content[start:end])
        )


async def chunks(*bodies: bytes) -> AsyncIterator[bytes]:
    for body in bodies:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run(work: Awaitable[None]) -> None:
    async def whole() -> None:
        await asyncio.wait_for(work, 30)

    asyncio.run(whole())


def test_a_log_grows_and_what_comes_twice_counts_once(place: Place) -> None:
    async def work() -> None:
        assert await place.log(0, b"one\n") == {"held": 4}
        assert await place.log(0, b"one\n") == {"held": 4}
        assert await place.log(9, b"early") == {"held": 4}
        assert await place.log(4, zlib.compress(b"two\n"), encoding="deflate") == {"held": 8}
        assert place.kept() == {LOG: b"one\ntwo\n"}
        after = place.again()
        assert await after.log(0, b"one\n") == {"held": 8}
        assert await after.log(0, b"anew\n", anew=True) == {"held": 5}
        assert place.kept() == {LOG: b"anew\n"}

    run(work())


def test_who_watches_hears_of_it_at_once(place: Place) -> None:
    async def work() -> None:
        with place.bus.subscribe("run_1") as subscription:
            await place.log(0, b"line\n")
            assert await subscription.wait(1) == {("run_1", "log")}
            await place.whole(b"content", 0, 7)
            assert await subscription.wait(1) == {("run_1", "files")}

    run(work())


def test_a_file_appears_whole_and_is_replaced_in_one_step(place: Place) -> None:
    first, second = os.urandom(1_500_000), os.urandom(700_000)

    async def work() -> None:
        assert await place.whole(first, 0, 600_000) == {"held": 600_000}
        assert place.kept() == {}
        after = place.again()
        assert await after.whole(first, 0, 600_000) == {"held": 600_000}
        assert await after.whole(first, 600_000, 1_500_000, mode=0o4755) == {"held": 1_500_000, "kept": True}
        assert place.kept() == {"outputs/a": first}
        path = Path(RunFolder(str(place.folder), "run_1").files, "outputs/a")
        assert path.stat().st_mode & 0o7777 == 0o500
        assert await after.whole(first, 600_000, 1_500_000) == {"held": 1_500_000, "kept": True}
        killed = after.again()
        assert await killed.whole(first, 600_000, 1_500_000) == {"held": 1_500_000, "kept": True}
        await killed.whole(second, 0, 100_000, version="v2")
        assert place.kept() == {"outputs/a": first}
        await killed.whole(second, 100_000, 700_000, version="v2")
        assert place.kept() == {"outputs/a": second}
        assert os.listdir(os.path.join(RunFolder(str(place.folder), "run_1").agent, "arriving")) == []

    run(work())


def test_what_does_not_have_its_checksum_is_thrown_away(place: Place) -> None:
    async def work() -> None:
        assert await place.whole(b"content", 0, 7, sha256="0" * 64) == {"held": 0}
        assert place.kept() == {}
        assert (await place.whole(b"content", 0, 7))["kept"]

    run(work())


def test_a_hole_takes_no_room(place: Place) -> None:
    content = bytes(3_000_000) + b"end"

    async def work() -> None:
        piece = Piece("outputs/a", 0, total=len(content), version="v1", encoding="zeros", zeros=3_000_000)
        assert await place.shipped.add(KEY, piece, chunks()) == {"held": 3_000_000}
        assert (await place.whole(content, 3_000_000, 3_000_003))["kept"]
        assert place.kept() == {"outputs/a": content}

    run(work())


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (zlib.compress(bytes(PIECE_BYTES + 1)), "deflate", "at most"),
        (zlib.compress(b"x" * 100)[:-3], "deflate", "not packed as it says"),
        (zlib.compress(b"x") + b"more", "deflate", "not packed as it says"),
        (b"no zlib at all", "deflate", "not packed as it says"),
        (bytes(PIECE_BYTES + 1), "", "at most"),
        (b"x", "gzip", "encoding=deflate"),
    ],
)
def test_a_piece_that_is_not_what_it_says_changes_nothing(place: Place, body: bytes, encoding: str, words: str) -> None:
    async def work() -> None:
        await place.log(0, b"before")
        with pytest.raises(UserErrorException, match=words):
            await place.log(6, body, encoding=encoding)
        assert place.kept() == {LOG: b"before"} and (await place.log(0, b""))["held"] == 6
        with pytest.raises(UserErrorException, match=words):
            await place.shipped.put(KEY, encoding, chunks(body))

    run(work())


def test_more_than_was_told(place: Place) -> None:
    async def work() -> None:
        with pytest.raises(UserErrorException, match="more of them came"):
            await place.shipped.add(KEY, Piece("outputs/a", 0, total=3, version="v"), chunks(b"four"))
        assert (await place.shipped.add(KEY, Piece("outputs/a", 1, total=3, version="v"), chunks(b"x")))["held"] == 0

    run(work())


@pytest.mark.parametrize("wrong", [{"offset": -1}, {"total": -1}, {"zeros": 1 << 40}, {"sha256": "x"}])
def test_numbers_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserErrorException):
        Piece(**{"path": "outputs/a", "offset": 0, **wrong})


@pytest.mark.parametrize(
    "name",
    [
        "../x", "/etc/passwd", "outputs/../../x", "outputs/..\\x", "a\0b", "", "outputs//x", "outputs/./x", "outputs/",
        "outputs/" + "n" * 256, "d/" * 2000 + "f", "outputs/x.windlass-part", "outputs/\udce9",
    ],
)  # fmt: skip
def test_names_that_lead_outside_or_cannot_be_told(place: Place, name: str) -> None:
    async def work() -> None:
        for piece in (Piece(name, 0), Piece(name, 0, total=1, version="v", sha256=hashlib.sha256(b"x").hexdigest())):
            with pytest.raises(UserErrorException):
                await place.shipped.add(KEY, piece, chunks(b"x"))
        with pytest.raises(UserErrorException):
            await place.shipped.remove(KEY, name)
        head = {"path": name, "size": 1, "mode": 0o600, "sha256": hashlib.sha256(b"x").hexdigest()}
        answer = await place.shipped.put(KEY, "", chunks(entry(head) + b"x"))
        assert len(answer["refused"]) == 1 and place.kept() == {}

    run(work())


def test_links_on_the_way_are_not_followed(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    files = Path(RunFolder(str(place.folder), "run_1").files)
    files.mkdir(parents=True)
    (files / "outputs").symlink_to(outside)
    (files / "azureml-logs").mkdir()
    (files / LOG).symlink_to(outside / "log")

    async def work() -> None:
        with pytest.raises(UserErrorException, match="link"):
            await place.whole(b"content", 0, 7)
        with pytest.raises(UserErrorException, match="symbolic links"):
            await place.log(0, b"x")
        (files / "azureml-logs/folder").mkdir()
        with pytest.raises(UserErrorException, match="directory"):
            await place.shipped.add(KEY, Piece("azureml-logs/folder", 0), chunks(b"x"))
        await place.shipped.remove(KEY, "outputs/secret")

    (outside / "secret").write_bytes(b"s")
    run(work())
    assert os.listdir(outside) == ["secret"]


def test_batches(place: Place) -> None:
    def told(name: str, content: bytes, **more: Any) -> bytes:
        head = {"path": name, "size": len(content), "mode": 0o644, "sha256": hashlib.sha256(content).hexdigest()}
        return entry({**head, **more}) + content

    async def work() -> None:
        body = told("outputs/a", b"a") + told("outputs/d/b", b"bb") + told("outputs/wrong", b"w", sha256="0" * 64)
        answer = await place.shipped.put(KEY, "deflate", chunks(zlib.compress(body)))
        assert [refused["path"] for refused in answer["refused"]] == ["outputs/wrong"]
        assert place.kept() == {"outputs/a": b"a", "outputs/d/b": b"bb"}
        gone = entry({"path": "outputs/d/b", "gone": True}) + entry({"path": "outputs/never", "gone": True})
        assert await place.shipped.put(KEY, "", chunks(gone)) == {"refused": []}
        assert place.kept() == {"outputs/a": b"a"}
        assert not Path(RunFolder(str(place.folder), "run_1").files, "outputs/d").exists()
        for junk in (b"\xff\xff\xff\xff", b"\x02\0\0\0[]", entry({"path": "outputs/a", "size": 9}), b"x"):
            with pytest.raises(UserErrorException, match="no batch"):
                await place.shipped.put(KEY, "", chunks(junk))

    run(work())


def test_settle_tells_what_is_not_there_as_told(place: Place) -> None:
    content = os.urandom(300_000)
    right = {"path": "outputs/a", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    async def work() -> None:
        assert (await place.shipped.settle(KEY, [right], last=False))["lacking"] == ["outputs/a"]
        await place.whole(content, 0, len(content))
        await place.whole(b"another", 0, 3, version="v2")
        assert (await place.shipped.settle(KEY, [right], last=True))["lacking"] == []
        assert os.listdir(os.path.join(RunFolder(str(place.folder), "run_1").agent, "arriving")) == []
        assert (await place.again().shipped.settle(KEY, [{**right, "sha256": "0" * 64}], last=True))["lacking"]

    run(work())


def test_a_connection_that_was_given_up_writes_no_more(place: Place) -> None:
    content = os.urandom(2_000_000)

    async def work() -> None:
        came, go_on = asyncio.Event(), asyncio.Event()

        async def broken() -> AsyncIterator[bytes]:
            yield content[:600_000]
            came.set()
            await go_on.wait()
            yield content[600_000:]

        piece = Piece("outputs/a", 0, total=len(content), version="v1", sha256=hashlib.sha256(content).hexdigest())
        old = asyncio.create_task(cast(Any, place.shipped.add(KEY, piece, broken())))
        await came.wait()
        held = (await place.whole(content, 0, 0))["held"]
        while held < 600_000:  # a thread writes what had come
            held = (await place.whole(content, 0, 0))["held"]
        assert held == 600_000
        assert (await place.whole(content, held, len(content)))["kept"]
        go_on.set()
        with pytest.raises(ServiceUnavailable):
            await old
        assert place.kept() == {"outputs/a": content}

    run(work())


def test_a_full_disk_is_the_servers_fault_and_costs_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(1_500_000)
    real: Callable[..., int] = os.pwrite
    room = [800_000]

    def full(fd: int, data: Any, offset: int) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(fd, data[: room[0]], offset)
        room[0] -= count
        return count

    async def work() -> None:
        monkeypatch.setattr(files_of.os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            await place.whole(content, 0, len(content))
        room[0] = 10_000_000
        assert (await place.whole(content, 0, 0))["held"] == 800_000
        assert (await place.whole(content, 800_000, len(content)))["kept"]
        assert place.kept() == {"outputs/a": content}

    run(work())


def test_parts_and_attempts_have_their_own_folders(place: Place) -> None:
    async def work() -> None:
        await place.shipped.add(("run_1", 1, 2), Piece("outputs/a", 0), chunks(b"of rank 2"))
        assert place.kept(("run_1", 1, 2)) == {"outputs/a": b"of rank 2"} and place.kept() == {}
        place.runs["run_1"].attempt = 2
        await place.shipped.add(("run_1", 1, 0), Piece("outputs/a", 0), chunks(b"late"))
        await place.shipped.add(("run_1", 2, 0), Piece("outputs/a", 0), chunks(b"new"))
        assert place.kept() == {"outputs/a": b"new"}
        assert (place.folder / "runs/run_1/attempts/1/files/outputs/a").read_bytes() == b"late"
        for key in (("absent", 1, 0), ("run_1", 3, 0), ("run_1", 1, -1)):
            with pytest.raises(UserErrorException, match="no run"):
                await place.shipped.add(key, Piece("outputs/a", 0), chunks(b"x"))

    run(work())


def test_many_open_files_are_let_go(place: Place) -> None:
    async def work() -> None:
        for number in range(100):
            await place.shipped.add(KEY, Piece(f"outputs/{number}", 0, total=2, version="v"), chunks(b"x"))
        assert len(place.shipped._open) <= 64
        digest = hashlib.sha256(b"xy").hexdigest()
        for number in range(100):
            piece = Piece(f"outputs/{number}", 1, total=2, version="v", sha256=digest)
            assert (await place.shipped.add(KEY, piece, chunks(b"y")))["kept"]

    run(work())


def test_a_sum_goes_on_from_what_lies_there(tmp_path: Path) -> None:
    first = Arriving(str(tmp_path / "a"), hashed=True)
    first.add(b"one ")
    first.close()
    second = Arriving(str(tmp_path / "a"), hashed=True)
    second.add(b"two")
    assert second.sha256() == hashlib.sha256(b"one two").hexdigest()
    second.close()
    second.close()
