"""Announcements of snapshots, over a restart."""

from __future__ import annotations

import os
from pathlib import Path

from windlassd.control.announced import Announced

ID, OTHER = "a" * 64, "b" * 64
FILES = [{"path": "train.py", "sha256": "c" * 64, "size": 1, "mode": 0o644}]


def test_an_announcement_that_is_kept_outlives_its_server(tmp_path: Path) -> None:
    first = Announced(str(tmp_path))
    first.add(ID, FILES)
    first.add(OTHER, FILES)
    first.keep(ID)
    second = Announced(str(tmp_path))
    assert second.find(ID) == FILES and second.find(OTHER) is None
    assert second.contents() == {"c" * 64}
    second.remove(ID)
    assert Announced(str(tmp_path)).find(ID) is None and os.listdir(tmp_path / "announced") == []


def test_the_oldest_give_way(tmp_path: Path) -> None:
    announced = Announced(str(tmp_path))
    for number in range(300):
        announced.add(f"{number:064x}", FILES)
        announced.keep(f"{number:064x}")
    assert announced.find(f"{0:064x}") is None and announced.find(f"{299:064x}") == FILES
    assert len(os.listdir(tmp_path / "announced")) == 256


def test_what_a_power_loss_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "announced").mkdir()
    for name in (f"{ID}.json", f"{OTHER}.json.part", "x.json"):
        (tmp_path / "announced" / name).write_text("[{")
    assert Announced(str(tmp_path)).contents() == set()
    assert os.listdir(tmp_path / "announced") == []


def test_a_client_that_has_not_come_back_for_a_day_is_not_waited_for(tmp_path: Path) -> None:
    announced = Announced(str(tmp_path))
    for snapshot in (ID, OTHER):
        announced.add(snapshot, FILES)
        announced.keep(snapshot)
    os.utime(tmp_path / "announced" / f"{ID}.json", (1.0, 1.0))
    assert Announced(str(tmp_path)).find(ID) is None and os.listdir(tmp_path / "announced") == [f"{OTHER}.json"]
