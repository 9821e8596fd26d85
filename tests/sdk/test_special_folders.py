"""What of ``outputs`` and ``logs`` belongs to an interactive run."""

from __future__ import annotations

import os
from pathlib import Path

from windlass._special_folders import SpecialFolders


def test_only_what_was_written_since_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "outputs/deep").mkdir(parents=True)
    for name in ("old.txt", "rewritten.txt"):
        (tmp_path / "outputs" / name).write_text("from before")
        os.utime(tmp_path / "outputs" / name, (1.0, 1.0))
    folders = SpecialFolders(str(tmp_path))
    assert (tmp_path / "logs").is_dir() and list(folders.written()) == []
    (tmp_path / "outputs/rewritten.txt").write_text("from before")
    (tmp_path / "outputs/deep/new.txt").write_text("x")
    (tmp_path / "logs/a.log").write_text("x")
    os.symlink("nowhere", tmp_path / "outputs/broken")
    names = [name for name, path in folders.written() if os.path.isfile(path)]
    assert names == ["outputs/rewritten.txt", "outputs/deep/new.txt", "logs/a.log"]


def test_another_folder_by_name(tmp_path: Path) -> None:
    folders = SpecialFolders(str(tmp_path), ["results"])
    (tmp_path / "results/x").write_text("x")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/y").write_text("y")
    assert [name for name, _ in folders.written()] == ["results/x"]
