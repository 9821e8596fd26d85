"""FileBlobStore against the conformance suite, and what only plain files promise."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlassd.blobs.base import BlobStoreError, BlobStoreFull
from windlassd.blobs.files import FileBlobStore
from windlassd.testing.blob_suite import BlobConformance, content_of, hash_of


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], FileBlobStore]]:
    """Opens stores on one folder; closes them at the end."""
    stores: list[FileBlobStore] = []

    def open_store() -> FileBlobStore:
        stores.append(FileBlobStore(str(tmp_path / "blobs")))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


class TestFileBlobStore(BlobConformance):
    @pytest.fixture
    def blobs(self, opened: Callable[[], FileBlobStore]) -> Iterator[FileBlobStore]:
        yield opened()

    @pytest.fixture
    def reopen(self, opened: Callable[[], FileBlobStore]) -> Callable[[], FileBlobStore]:
        return opened


@pytest.fixture
def blobs(opened: Callable[[], FileBlobStore]) -> FileBlobStore:
    return opened()


def _unfinished(blobs: FileBlobStore) -> list[str]:
    root = Path(blobs._root) / "tmp"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.name not in (".lock", "lock"))


def test_an_object_is_a_read_only_file(blobs: FileBlobStore) -> None:
    blobs.put([b"abc"], hash_of(b"abc"))
    place = blobs.path(hash_of(b"abc"))
    assert place is not None and place.endswith(f"/{hash_of(b'abc')[:2]}/{hash_of(b'abc')[2:]}")
    assert stat.S_IMODE(os.stat(place).st_mode) & 0o333 == 0
    assert Path(place).read_bytes() == b"abc"


_WRITER = """
import sys, time
from windlassd.blobs.files import FileBlobStore
def slow():
    yield b"half"
    print("writing", flush=True)
    time.sleep(60)
FileBlobStore(sys.argv[1]).put(slow(), "0" * 64)
"""


def test_what_a_dead_writer_left_is_swept_and_a_living_ones_is_not(
    opened: Callable[[], FileBlobStore], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "blobs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        first = opened()
        assert len([name for name in _unfinished(first) if "/" in name]) == 1
        writer.send_signal(signal.SIGKILL)
    second = opened()
    assert [name for name in _unfinished(second) if "/" in name] == []
    second.put([b"abc"], hash_of(b"abc"))
    first.put([b"abd"], hash_of(b"abd"))
    assert set(first.hashes()) == {hash_of(b"abc"), hash_of(b"abd")}


def test_nothing_unfinished_stays_behind(blobs: FileBlobStore) -> None:
    for name in (hash_of(b"abc"), hash_of(b"wrong")):
        try:
            blobs.put([b"abc"], name)
        except Exception as problem:
            assert type(problem).__name__ == "BlobMismatch"
    assert [name for name in _unfinished(blobs) if "/" in name] == []


def test_contents_are_on_disk_before_their_names(blobs: FileBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, os.replace

    def kind_of(descriptor: int) -> str:
        return "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"

    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(f"sync {kind_of(fd)}"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (rename(a, b), steps.append("rename")))
    blobs.put([b"abc"], hash_of(b"abc"))
    assert steps == ["sync file", "rename", "sync folder", "sync folder"]
    steps.clear()
    blobs.put_many([(hash_of(b"1"), [b"1"]), (hash_of(b"2"), [b"2"])])
    assert steps[:4] == ["sync file", "sync file", "rename", "rename"]
    assert set(steps[4:]) == {"sync folder"}
    steps.clear()
    monkeypatch.setattr("windlassd.blobs.syncing.sync_file_system", lambda path: steps.append("sync all") or True)
    blobs.put_many([(hash_of(b"x%d" % n), [b"x%d" % n]) for n in range(100)])
    assert steps == ["sync all", *["rename"] * 100, "sync all"]


def test_what_a_killed_store_did_not_sync_is_synced_before_it_counts(
    blobs: FileBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = hash_of(b"abc")
    blobs.put([b"abc"], known)
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    for ask in (
        lambda s: s.missing([known]),
        lambda s: s.put([b"abc"], known),
        lambda s: s.put_many([(known, [b"abc"])]),
    ):
        again = FileBlobStore(os.path.dirname(os.path.dirname(blobs.path(known) or "")))
        synced.clear()
        ask(again)
        assert len(synced) == 2 and any(path.endswith("/" + known[:2]) for path in synced)
        ask(again)
        assert len(synced) == 2
        again.close()


def test_a_full_disk_says_so_and_leaves_nothing(blobs: FileBlobStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(BlobStoreFull, match="Free some space") as caught:
            blobs.put([b"x" * (1 << 20)], hash_of(b"x" * (1 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.transient
    assert list(blobs.hashes()) == []
    blobs.put([b"x" * (1 << 20)], hash_of(b"x" * (1 << 20)))
    assert len(content_of(blobs, hash_of(b"x" * (1 << 20)))) == 1 << 20


def test_a_place_that_cannot_be_a_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BlobStoreError, match=str(tmp_path / "file")):
        FileBlobStore(str(tmp_path / "file"))
