"""What every blob store must do. A backend's tests are a subclass with the fixtures ``blobs`` and ``reopen``."""

# ruff: noqa: D102 - the names of the tests say it

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlass.errors import SnapshotException
from windlassd.blobs.base import BlobMismatch, BlobMissing, BlobStore
from windlassd.blobs.handed import Copied, Handed


def hash_of(content: bytes) -> str:
    """SHA-256 in the form that a blob store takes."""
    return hashlib.sha256(content).hexdigest()


def content_of(blobs: BlobStore, sha256: str) -> bytes:
    """The whole object."""
    with blobs.open(sha256) as file:
        return file.read()


class BlobConformance:
    """All of it: what a backend's test class derives from."""

    @pytest.fixture
    def blobs(self) -> Iterator[BlobStore]:
        """An empty store, closed afterwards. Subclasses give it."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self, blobs: BlobStore) -> Callable[[], BlobStore]:
        """A function that opens the same store again, as a restarted server does. Subclasses give it."""
        raise NotImplementedError

    @pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"a", b"", b"bc"], [b"x" * 3_000_000, b"y"]])
    def test_what_went_in_comes_out(self, blobs: BlobStore, chunks: list[bytes]) -> None:
        content = b"".join(chunks)
        assert blobs.put(iter(chunks), hash_of(content)) == len(content)
        assert content_of(blobs, hash_of(content)) == content
        assert list(blobs.hashes()) == [hash_of(content)]

    def test_a_wrong_hash_stores_nothing(self, blobs: BlobStore) -> None:
        with pytest.raises(BlobMismatch) as caught:
            blobs.put([b"abc"], hash_of(b"abd"))
        assert hash_of(b"abc") in str(caught.value) and hash_of(b"abd") in str(caught.value)
        assert list(blobs.hashes()) == []

    def test_a_content_that_is_already_there_is_checked_all_the_same(self, blobs: BlobStore) -> None:
        for _ in range(2):
            assert blobs.put([b"ab", b"c"], hash_of(b"abc")) == 3
        with pytest.raises(BlobMismatch):
            blobs.put([b"other"], hash_of(b"abc"))
        assert content_of(blobs, hash_of(b"abc")) == b"abc"

    def test_a_sender_that_breaks_off_leaves_nothing(self, blobs: BlobStore) -> None:
        def broken() -> Iterator[bytes]:
            yield b"abc"
            raise ConnectionResetError("gone")

        with pytest.raises(ConnectionResetError):
            blobs.put(broken(), hash_of(b"abc"))
        assert list(blobs.hashes()) == []

    @pytest.mark.parametrize(
        "name", ["", "abc", "../" * 21 + "x", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "\n", "0/" * 32]
    )
    def test_only_hashes_are_names(self, blobs: BlobStore, name: str) -> None:
        for call in (blobs.open, blobs.path, blobs.delete, lambda n: blobs.put([b""], n), lambda n: blobs.missing([n])):
            with pytest.raises(SnapshotException) as caught:
                call(name)
            assert repr(name) in str(caught.value)

    def test_an_absent_object_is_named(self, blobs: BlobStore) -> None:
        absent = hash_of(b"never")
        with pytest.raises(BlobMissing, match=absent):
            blobs.open(absent)
        assert blobs.path(absent) is None
        blobs.delete(absent)

    def test_missing_tells_what_to_send(self, blobs: BlobStore) -> None:
        there, first, second = hash_of(b"there"), hash_of(b"1"), hash_of(b"2")
        blobs.put([b"there"], there)
        assert list(blobs.missing([second, there, first, second])) == [second, first]
        assert list(blobs.missing([])) == []

    def test_many_are_stored_at_once(self, blobs: BlobStore) -> None:
        contents = [b"%d" % n for n in range(200)]
        assert blobs.put_many((hash_of(c), [c]) for c in [*contents, contents[0]]) == 201
        assert set(blobs.hashes()) == set(map(hash_of, contents))
        assert all(content_of(blobs, hash_of(c)) == c for c in contents)

    def test_files_are_stored_by_their_paths(self, blobs: BlobStore, tmp_path: Path) -> None:
        contents = [b"one", b"two", b"one"]
        handed = []
        for number, content in enumerate(contents):
            place = tmp_path / f"file-{number}"
            place.write_bytes(content)
            known = place.stat()
            state = (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns)
            handed.append(Handed(place.name, str(place), state))
        absent = Handed("absent", str(tmp_path / "absent"), (0, 0, 0, 0))
        found = blobs.put_handed([absent, *handed])
        assert found == {n + 1: Copied(3, hash_of(content)) for n, content in enumerate(contents)}
        assert sorted(blobs.hashes()) == sorted({hash_of(b"one"), hash_of(b"two")})
        assert [content_of(blobs, hash_of(content)) for content in contents] == contents
        assert blobs.put_handed(handed[:1]) == {0: Copied(3, hash_of(b"one"))}

    def test_those_before_a_wrong_one_are_stored(self, blobs: BlobStore) -> None:
        with pytest.raises(BlobMismatch):
            blobs.put_many([(hash_of(b"a"), [b"a"]), (hash_of(b"b"), [b"B"]), (hash_of(b"c"), [b"c"])])
        assert list(blobs.hashes()) == [hash_of(b"a")]

    def test_a_file_is_copied(self, blobs: BlobStore, tmp_path: Path) -> None:
        source = tmp_path / "source.bin"
        source.write_bytes(b"abc")
        assert blobs.put_file(str(source)) == blobs.put_file(str(source)) == (hash_of(b"abc"), 3)
        source.write_bytes(b"changed")
        assert content_of(blobs, hash_of(b"abc")) == b"abc"
        with pytest.raises(SnapshotException, match="absent"):
            blobs.put_file(str(tmp_path / "absent"))

    def test_a_deleted_object_is_gone_and_can_come_back(self, blobs: BlobStore) -> None:
        name = hash_of(b"abc")
        for _ in range(2):
            blobs.put([b"abc"], name)
            blobs.delete(name)
            assert list(blobs.missing([name])) == [name]

    def test_objects_are_there_after_reopening(self, blobs: BlobStore, reopen: Callable[[], BlobStore]) -> None:
        blobs.put([b"abc"], hash_of(b"abc"))
        assert content_of(reopen(), hash_of(b"abc")) == b"abc"

    def test_many_threads_store_the_same(self, blobs: BlobStore) -> None:
        contents = [b"%d" % n for n in range(50)]
        failed: list[BaseException] = []

        def send() -> None:
            try:
                for content in contents:
                    blobs.put([content], hash_of(content))
            except BaseException as problem:  # noqa: BLE001 - the thread's edge; asserted below
                failed.append(problem)

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert set(blobs.hashes()) == set(map(hash_of, contents))
