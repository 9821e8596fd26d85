from __future__ import annotations

import os
from pathlib import Path

from windlassd.envs._sizes import Whole, measured

BIG = 100_000


def environment(folder: Path, *shared: Path, own: int = 0) -> Path:
    folder.mkdir()
    for file in shared:
        os.link(file, folder / file.name)
    if own:
        (folder / "own").write_bytes(b"x" * own)
    return folder


def on_disk(path: Path) -> int:
    return path.lstat().st_blocks * 512


def test_a_file_with_several_names_counts_once_over_the_whole(tmp_path: Path) -> None:
    cached = tmp_path / "in uv's cache"
    cached.write_bytes(b"x" * BIG)
    parts = {
        "a": measured(str(environment(tmp_path / "a", cached, own=BIG))),
        "b": measured(str(environment(tmp_path / "b", cached))),
    }
    assert parts["a"].bytes >= 2 * on_disk(cached)
    assert (parts["a"].shared, parts["b"].shared) == (on_disk(cached), on_disk(cached))
    whole = Whole(parts, {"b": 7})
    assert whole.bytes == parts["a"].alone + parts["b"].alone + on_disk(cached) + 7
    assert whole.without("a") == parts["a"].alone, "the other still has the shared file"
    assert whole.without("b") == parts["b"].alone + on_disk(cached) + 7
    assert whole.bytes == 0


def test_two_names_in_one_environment_are_one_file_and_links_are_not_followed(tmp_path: Path) -> None:
    folder = environment(tmp_path / "a", own=BIG)
    os.link(folder / "own", folder / "again")
    os.symlink(folder / "own", folder / "link")
    os.symlink("/", folder / "root")
    assert measured(str(folder)).bytes < 1.5 * BIG


def test_what_is_gone_takes_nothing(tmp_path: Path) -> None:
    assert measured(str(tmp_path / "nothing")).bytes == 0
