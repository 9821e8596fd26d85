"""Files handed over by their paths: copied whole, hashed as copied, on the disk before they have their names."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import UserErrorException
from windlassd.blobs import handed
from windlassd.blobs.handed import Handed, kept_copies

CONTENT = bytes(range(256)) * 40


def described(place: Path, **changes: Any) -> Handed:
    state = place.stat()
    return Handed.from_wire({
        "path": place.name, "from": str(place), "device": state.st_dev, "inode": state.st_ino, "size": state.st_size,
        "modified_ns": state.st_mtime_ns, **changes,
    })  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    place = tmp_path / "source" / "file"
    place.write_bytes(CONTENT)
    return place


@pytest.fixture
def big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files take the way of big ones."""
    monkeypatch.setattr(handed, "_SMALL_BYTES", 0)
    monkeypatch.setattr(handed, "_STEP_BYTES", 1000)
    monkeypatch.setattr(handed, "_HASHED_BYTES", 300)


def copied(source: Path, target: Path) -> None:
    told = kept_copies([described(source)], [str(target)])
    assert told == [{"path": "file", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}]
    assert target.read_bytes() == CONTENT and os.listdir(target.parent).count(target.name) == 1


def test_a_small_and_a_big_file_are_copied_with_their_hashes(
    source: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copied(source, tmp_path / "small")
    request.getfixturevalue("big")
    copied(source, tmp_path / "big")
    assert sorted(os.listdir(tmp_path)) == ["big", "small", "source"]


def test_a_file_system_without_copies_of_its_own_is_copied_from(
    big: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    copied(source, tmp_path / "copy")


@pytest.mark.parametrize("key", ["device", "inode", "size", "modified_ns"])
def test_another_file_at_that_path_is_not_taken_for_the_clients(source: Path, tmp_path: Path, key: str) -> None:
    files = [described(source, **{key: 12345}), described(source, **{"from": str(tmp_path / "absent")})]
    assert kept_copies(files, [str(tmp_path / "a"), str(tmp_path / "b")]) == [None, None]
    assert os.listdir(tmp_path) == ["source"]


def test_a_file_that_changes_meanwhile_is_not_kept_nor_those_with_it(
    big: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source" / "other").write_bytes(b"other")
    step = handed._step

    def writing(copied: int, *args: Any) -> int:
        if os.readlink(f"/proc/self/fd/{copied}") == str(source):
            with source.open("ab") as f:
                f.write(b"more")
        return step(copied, *args)

    files = [described(tmp_path / "source" / "other"), described(source)]
    monkeypatch.setattr(handed, "_step", writing)
    with pytest.raises(UserErrorException, match=r"source/file changed while it was uploaded"):
        kept_copies(files, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert os.listdir(tmp_path) == ["source"]


def test_nothing_has_its_name_before_all_are_on_the_disk(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    replace = os.replace
    monkeypatch.setattr(handed, "sync_all", lambda paths: steps.append(f"sync {len(paths)}"))
    monkeypatch.setattr(os, "replace", lambda a, b: (replace(a, b), steps.append("rename")))
    kept_copies([described(source)] * 3, [str(tmp_path / name) for name in "abc"])
    assert steps == ["sync 3", *["rename"] * 3, "sync 1"]


def test_a_relative_path_is_refused(source: Path) -> None:
    with pytest.raises(UserErrorException, match="absolute path"):
        described(source, **{"from": "source/file"})
