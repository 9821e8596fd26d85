"""Measuring and removing what scripts leave."""

from __future__ import annotations

import os
from pathlib import Path

from windlassd.blobs.room import bytes_on_disk, remove_tree


def test_bytes_are_those_of_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    empty = bytes_on_disk(str(folder))
    (folder / "a").write_bytes(bytes(100_000))
    os.link(folder / "a", folder / "same")
    with open(folder / "sparse", "wb") as f:
        f.truncate(1 << 30)
    os.symlink("/usr", folder / "link")
    assert 100_000 <= bytes_on_disk(str(folder)) - empty < 120_000
    assert bytes_on_disk(str(tmp_path / "gone")) == 0


def test_closed_folders_links_and_odd_names_are_removed_and_nothing_beside(tmp_path: Path) -> None:
    root, beside = tmp_path / "root", tmp_path / "beside"
    (root / "closed" / "inner").mkdir(parents=True)
    (root / "closed" / "inner" / "file").write_text("x")
    beside.mkdir()
    (beside / "mine").write_text("mine")
    os.symlink(beside, root / "link")
    os.symlink("nowhere", root / "dangling")
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    os.mkfifo(root / "pipe")
    (root / "closed" / "inner").chmod(0)
    (root / "closed").chmod(0)
    remove_tree(str(root))
    assert os.listdir(tmp_path) == ["beside"] and (beside / "mine").read_text() == "mine"
    os.symlink(beside, root)
    remove_tree(str(root))
    remove_tree(str(root))
    assert (beside / "mine").exists() and not os.path.lexists(root)


def test_a_folder_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    place = os.open(root, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d" * 20, dir_fd=place)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    remove_tree(str(root))
    assert not root.exists()
