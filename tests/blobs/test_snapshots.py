"""Snapshots are checked, named by their content, and laid out as copies that stay inside their folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import SnapshotException
from windlassd.blobs.base import BlobMismatch, BlobMissing
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.snapshots import check_manifest, materialize, snapshot_id
from windlassd.testing.blob_suite import hash_of


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[FileBlobStore]:
    store = FileBlobStore(str(tmp_path / "blobs"))
    yield store
    store.close()


def entry(path: str, content: bytes = b"", mode: int = 0o644, **other: Any) -> dict[str, Any]:
    return {"path": path, "sha256": hash_of(content), "size": len(content), "mode": mode, **other}


def stored(blobs: FileBlobStore, files: dict[str, bytes], mode: int = 0o644) -> list[dict[str, Any]]:
    blobs.put_many((hash_of(content), [content]) for content in files.values())
    return [entry(path, content, mode) for path, content in files.items()]


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "./a", "a/./b", "a//b", "a/", "a\0b", "a\\b", None, 7],
)
def test_a_path_that_leads_out_or_makes_no_sense_is_named(path: Any) -> None:
    with pytest.raises(SnapshotException) as caught:
        check_manifest([entry("fine.py"), entry(path)])
    assert repr(path) in str(caught.value)


def test_a_path_that_is_there_twice_or_is_file_and_folder_is_named() -> None:
    with pytest.raises(SnapshotException, match="'a/b' twice"):
        check_manifest([entry("a/b"), entry("c"), entry("a/b")])
    for order in ([0, 1], [1, 0]):
        files = [entry("a/b"), entry("a/b/c/d")]
        with pytest.raises(SnapshotException, match="'a/b' is a file and also a folder"):
            check_manifest([files[n] for n in order])
    check_manifest([entry("a/b"), entry("A/B"), entry("a/bc"), entry("...x"), entry("ä ö/ü\n.py")])


@pytest.mark.parametrize(
    "wrong", [{"sha256": "abc"}, {"sha256": None}, {"size": -1}, {"size": "1"}, {"mode": None}, {"mode": True}]
)
def test_a_content_that_is_not_described_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SnapshotException, match=f"{next(iter(wrong))}|SHA-256") as caught:
        check_manifest([{**entry("a.py"), **wrong}])
    assert "'a.py'" in str(caught.value)


def test_the_id_is_that_of_the_content() -> None:
    files = [entry("b", b"1"), entry("a", b"2")]
    assert snapshot_id(files) == snapshot_id(files[::-1]) == snapshot_id([entry("a", b"2", 0o600), entry("b", b"1")])
    others = [
        [entry("b", b"1")],
        [entry("b", b"1"), entry("a", b"3")],
        [entry("b", b"1"), entry("c", b"2")],
        [entry("b", b"1", 0o755), entry("a", b"2")],
    ]
    assert len({snapshot_id(files), *map(snapshot_id, others)}) == 5
    assert len(snapshot_id([])) == 64


def test_files_are_laid_out_as_they_were(blobs: FileBlobStore, tmp_path: Path) -> None:
    files = stored(blobs, {"train.py": b"print(1)", "pkg/__init__.py": b"", "pkg/deep/er/data.bin": b"x" * 3_000_000})
    files += stored(blobs, {"run.sh": b"#!/bin/sh"}, mode=0o755)
    materialize(blobs, files, str(tmp_path / "work"))
    for file in files:
        assert hash_of((tmp_path / "work" / file["path"]).read_bytes()) == file["sha256"]
    assert os.access(tmp_path / "work/run.sh", os.X_OK)
    assert stat.S_IMODE((tmp_path / "work/train.py").stat().st_mode) & 0o111 == 0


def test_a_script_may_change_its_files_without_harm(blobs: FileBlobStore, tmp_path: Path) -> None:
    files = stored(blobs, {"a.py": b"one"})
    materialize(blobs, files, str(tmp_path / "work"))
    (tmp_path / "work/a.py").write_text("changed")
    materialize(blobs, files, str(tmp_path / "other"))
    assert (tmp_path / "other/a.py").read_bytes() == b"one"
    assert (tmp_path / "other/a.py").stat().st_nlink == 1


def test_laying_out_again_replaces_what_is_there(blobs: FileBlobStore, tmp_path: Path) -> None:
    files = stored(blobs, {"a.py": b"one", "d/b.py": b"two"})
    for _ in range(2):
        materialize(blobs, files, str(tmp_path / "work"))
        (tmp_path / "work/a.py").write_text("half written by a killed agent")
    materialize(blobs, files, str(tmp_path / "work"))
    assert (tmp_path / "work/a.py").read_bytes() == b"one"


def test_no_link_leads_out(blobs: FileBlobStore, tmp_path: Path) -> None:
    outside, work = tmp_path / "outside", tmp_path / "work"
    outside.mkdir()
    (outside / "precious").write_text("keep me")
    work.mkdir()
    (work / "link").symlink_to(outside)
    (work / "a.py").symlink_to(outside / "precious")
    with pytest.raises(SnapshotException, match="'link' is there and is a link"):
        materialize(blobs, stored(blobs, {"link/evil": b"x"}), str(work))
    materialize(blobs, stored(blobs, {"a.py": b"one"}), str(work))
    assert not (work / "a.py").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "keep me"


def test_a_folder_in_the_way_is_named(blobs: FileBlobStore, tmp_path: Path) -> None:
    (tmp_path / "work/a.py").mkdir(parents=True)
    with pytest.raises(SnapshotException, match=r"'a\.py'"):
        materialize(blobs, stored(blobs, {"a.py": b"one"}), str(tmp_path / "work"))


def test_a_damaged_or_lost_content_never_runs(blobs: FileBlobStore, tmp_path: Path) -> None:
    files = stored(blobs, {"a.py": b"one"})
    place = blobs.path(files[0]["sha256"])
    assert place is not None
    os.chmod(place, 0o600)
    Path(place).write_bytes(b"0ne")
    with pytest.raises(BlobMismatch, match=r"'a\.py'") as caught:
        materialize(blobs, files, str(tmp_path / "work"))
    assert files[0]["sha256"] in str(caught.value)
    assert not (tmp_path / "work/a.py").exists()
    blobs.delete(files[0]["sha256"])
    with pytest.raises(BlobMissing, match=files[0]["sha256"]):
        materialize(blobs, files, str(tmp_path / "work"))
    assert not (tmp_path / "work/a.py").exists()
