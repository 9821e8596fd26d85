"""A node's cache of snapshots' contents, filled over TLS."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.tls_listener import Answer, Asked, Listener, said, stream
from windlass._transport import client as transport
from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable, SnapshotException
from windlassd.agent import sources
from windlassd.agent.sources import NodeCache
from windlassd.agent.uplink import Uplink
from windlassd.blobs.base import BlobMismatch
from windlassd.blobs.run_folder import RunFolder

SNAPSHOT = "s" * 64


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Contents:
    """A server with one snapshot. ``cut_after`` octets the next answer with contents breaks off."""

    def __init__(self, listener: Listener, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.listener = listener
        self.cut_after: int | None = None
        self.wrong: set[str] = set()
        listener.answers = self.answer

    def answer(self, asked: Asked) -> Answer:
        if asked.path == f"/agent/v1/run_1.1.0/snapshots/{SNAPSHOT}":
            entries = [{"path": p, "sha256": sha(c), "size": len(c), "mode": 0o644} for p, c in self.files.items()]
            return said({"files": entries})
        assert asked.path == "/agent/v1/run_1.1.0/blobs"
        by_hash = {sha(content): content for content in self.files.values()}
        by_hash.update({h: bytes(len(by_hash[h])) for h in self.wrong})
        body = b"".join(
            struct.pack("<Q32s", len(by_hash[h]), bytes.fromhex(h)) + by_hash[h] for h in asked.json["hashes"]
        )
        cut, self.cut_after = self.cut_after, None
        return stream(iter([body[:cut]]))

    @property
    def sent(self) -> list[list[str]]:
        """Hashes that were asked for, by call."""
        return [asked.json["hashes"] for asked in self.listener.asked if asked.path.endswith("/blobs")]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "server").start()
    yield made
    made.stop()


@pytest.fixture
def contents(listener: Listener) -> Contents:
    return Contents(listener, {"train.py": b"print(1)\n", "a/b.txt": b"b" * 3_000_000})


@pytest.fixture
def cache(listener: Listener, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeCache]:
    monkeypatch.setattr(transport, "PATIENCE_S", 0.0)
    monkeypatch.setattr(sources, "_ASK_AGAIN_S", (0.0,))
    (home / "blobs").mkdir()
    made = NodeCache(Client("/ws", way=Uplink(listener.ticket())), "run_1.1.0", str(home / "blobs"))
    yield made
    made.close()


def laid_out(folder: RunFolder) -> dict[str, bytes]:
    top = Path(folder.work)
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_only_what_is_missing_is_fetched(cache: NodeCache, contents: Contents, folder: RunFolder) -> None:
    cache.lay_out(SNAPSHOT, folder, lambda: True)
    assert laid_out(folder) == contents.files
    contents.files["new"] = b"new"
    cache.lay_out(SNAPSHOT, folder, lambda: True)
    assert laid_out(folder) == contents.files
    assert [len(call) for call in contents.sent] == [2, 1]


def test_an_answer_that_breaks_off_is_gone_on_with(cache: NodeCache, contents: Contents, folder: RunFolder) -> None:
    contents.cut_after = 1_000_000  # the first content has arrived by then, the second has not
    cache.lay_out(SNAPSHOT, folder, lambda: True)
    assert laid_out(folder) == contents.files
    assert [len(call) for call in contents.sent] == [2, 1]


def test_a_damaged_content_is_fetched_again(
    cache: NodeCache, contents: Contents, folder: RunFolder, home: Path
) -> None:
    cache.lay_out(SNAPSHOT, folder, lambda: True)
    digest = sha(b"print(1)\n")
    place = home / "blobs" / digest[:2] / digest[2:]
    place.chmod(0o600)
    place.write_bytes(b"print(2)\n")
    cache.lay_out(SNAPSHOT, folder, lambda: True)
    assert laid_out(folder)["train.py"] == b"print(1)\n"


def test_a_server_that_sends_something_else_is_believed_nothing(
    cache: NodeCache, contents: Contents, folder: RunFolder
) -> None:
    contents.wrong.add(sha(b"print(1)\n"))
    with pytest.raises(BlobMismatch, match="not " + sha(b"print(1)\n")):
        cache.lay_out(SNAPSHOT, folder, lambda: True)
    assert not os.path.exists(os.path.join(folder.work, "train.py"))


def test_a_path_that_leads_out_is_refused(cache: NodeCache, contents: Contents, folder: RunFolder) -> None:
    contents.files["../out"] = b"x"
    with pytest.raises(SnapshotException, match="does not lie inside"):
        cache.lay_out(SNAPSHOT, folder, lambda: True)


def test_it_waits_for_the_server_until_it_is_told_to_stop(
    cache: NodeCache, contents: Contents, folder: RunFolder
) -> None:  # fmt: skip
    contents.listener.stop()
    asked: list[int] = []

    def wanted() -> bool:
        asked.append(1)
        return len(asked) < 3

    with pytest.raises(ServiceUnavailable):
        cache.lay_out(SNAPSHOT, folder, wanted)
    assert len(asked) == 3


def test_what_was_not_used_for_longest_goes_first(
    cache: NodeCache, contents: Contents, folder: RunFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.lay_out(SNAPSHOT, folder, lambda: True)
    old, used = sha(b"b" * 3_000_000), sha(b"print(1)\n")
    os.utime(home / "blobs" / old[:2] / old[2:], (1, 1))
    monkeypatch.setenv("WINDLASS_NODE_CACHE_MAX_GB", "0.001")
    cache.shrink()
    assert not (home / "blobs" / old[:2] / old[2:]).exists()
    assert (home / "blobs" / used[:2] / used[2:]).exists()


def test_nothing_goes_while_somebody_lays_a_snapshot_out(
    cache: NodeCache, contents: Contents, folder: RunFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_NODE_CACHE_MAX_GB", "0")
    with open(home / "blobs" / "cache.lock", "ab") as door:
        fcntl.flock(door, fcntl.LOCK_SH)
        cache.lay_out(SNAPSHOT, folder, lambda: True)
        assert not cache._blobs.missing([sha(b"print(1)\n")])
    cache.shrink()
    assert cache._blobs.missing([sha(b"print(1)\n")])
    assert laid_out(folder) == contents.files


def test_agents_of_a_node_share_it_at_the_same_time(
    cache: NodeCache, contents: Contents, home: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_NODE_CACHE_MAX_GB", "0")  # each removes what it can, all the time
    contents.files.update({f"f{i}": os.urandom(1000) for i in range(50)})
    problems: list[BaseException] = []

    def lay_out(number: int) -> None:
        own = NodeCache(Client("/ws", way=Uplink(listener.ticket())), "run_1.1.0", str(home / "blobs"))
        folder = RunFolder(str(home / "workspaces" / f"ws{number}"), "run_1")
        try:
            for _ in range(5):
                folder.make()
                own.lay_out(SNAPSHOT, folder, lambda: True)
                assert laid_out(folder) == contents.files
        except BaseException as problem:
            problems.append(problem)
        own.close()

    threads = [threading.Thread(target=lay_out, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
