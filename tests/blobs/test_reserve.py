"""Room that is set aside for deletions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlassd.blobs.reserve import RESERVE_BYTES, Reserve


def test_the_room_is_really_taken_and_given_back(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    reserve = Reserve(str(tmp_path))
    assert not reserve.give_up()
    assert reserve.make() and reserve.make()
    assert os.stat(tmp_path / "server" / "reserve").st_blocks * 512 >= RESERVE_BYTES
    assert reserve.give_up() and os.listdir(tmp_path / "server") == []


def test_a_disk_without_room_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "server").mkdir()
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not Reserve(str(tmp_path)).make()
    assert os.listdir(tmp_path / "server") == []
