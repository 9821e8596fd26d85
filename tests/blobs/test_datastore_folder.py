from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.blobs.datastore_folder import PART, DatastoreFolder, copy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("a.csv", "b.txt", "deep/c.csv", "deep/er/d.csv", f"x.1{PART}"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    outside = tmp_path / "data-outside"
    outside.mkdir()
    (outside / "secret").write_text("hidden")
    os.symlink(outside, folder / "out")
    os.symlink(outside / "secret", folder / "file-out")
    os.symlink("a.csv", folder / "inside")
    return folder


@pytest.fixture
def store(root: Path) -> DatastoreFolder:
    return DatastoreFolder(str(root), "the datastore 'd'")


def test_a_list_has_what_lies_inside(store: DatastoreFolder) -> None:
    assert [f["path"] for f in store.list()] == ["a.csv", "b.txt", "deep/c.csv", "deep/er/d.csv", "inside"]
    assert [f["path"] for f in store.list("deep")] == ["deep/c.csv", "deep/er/d.csv"]
    assert [f["path"] for f in store.list("de")] == ["deep/c.csv", "deep/er/d.csv"], "a prefix, not only a folder"
    assert store.list("nothing") == [] == store.list("out")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv", ["a.csv"]),
        ("deep", ["c.csv", "er/d.csv"]),
        ("*.csv", ["a.csv"]),
        ("**/*.csv", ["a.csv", "deep/c.csv", "deep/er/d.csv"]),
        ("deep/**", ["c.csv", "er/d.csv"]),
        ("deep/?.[cx]sv", ["c.csv"]),
        ("nothing/*", []),
    ],
)
def test_patterns(store: DatastoreFolder, path: str, expected: list[str]) -> None:
    assert [relative for relative, _ in store.match(path)] == expected


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "out/secret", "out", "file-out", "deep/../../data-outside", "a\0"]
)
def test_no_path_leads_out(store: DatastoreFolder, path: str) -> None:
    for ask in (store.place, store.file, store.target):
        with pytest.raises(UserErrorException):
            ask(path)


def test_a_folder_that_users_name_themselves_may_hold_links(root: Path) -> None:
    mine = DatastoreFolder(str(root), "this machine", links_out=True)
    assert "file-out" in [f["path"] for f in mine.list()]
    assert mine.file("out/secret").endswith("out/secret")


def test_a_file_and_a_folder_do_not_take_each_others_place(store: DatastoreFolder) -> None:
    with pytest.raises(UserErrorException, match="is a folder"):
        store.target("deep")
    with pytest.raises(UserErrorException, match="is a file"):
        store.target("a.csv/x")
    with pytest.raises(UserErrorException, match="needs a name"):
        store.target("/")
    with pytest.raises(UserErrorException, match=r"no file 'a\.cvs'.*a\.csv"):
        store.file("a.cvs")


def test_a_copy_is_whole_or_absent(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    copy(str(tmp_path / "source"), str(tmp_path / "target"))
    with pytest.raises(IsADirectoryError):
        copy(str(tmp_path), str(tmp_path / "other"))
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]
