"""Finding GPUs without a process, and handing them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlassd.compute._gpus import GpuPool, installed


def test_the_drivers_list_counts(tmp_path: Path) -> None:
    for bus in ("0000:01:00.0", "0000:41:00.0", "0000:81:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    assert list(installed(tmp_path / "gpus", tmp_path)) == [0, 1, 2]


def test_device_files_count_where_the_driver_does_not_tell(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia0p"):
        (tmp_path / name).touch()
    assert list(installed(tmp_path / "absent", tmp_path)) == [0, 1]


def test_a_machine_without_gpus(tmp_path: Path) -> None:
    assert list(installed(tmp_path / "absent", tmp_path)) == []
    pool = GpuPool(())
    gpus, note = pool.take("a", 1)
    assert list(gpus) == [] and note == "1 GPU was asked for, and this machine has none: it runs on the CPU."
    assert "4 GPUs were asked for" in str(pool.take("b", 4)[1])


def test_each_job_gets_its_own_while_there_are_free_ones() -> None:
    pool = GpuPool(range(4))
    assert pool.take("a", 1) == ([0], None)
    assert pool.take("b", 2) == ([1, 2], None)
    pool.release("a")
    assert pool.take("c", 2) == ([0, 3], None)


def test_the_least_shared_are_shared_and_the_user_is_told() -> None:
    pool = GpuPool(range(2))
    pool.take("a", 2)
    assert pool.take("b", 1) == ([0], "It shares GPU 0 with other runs.")
    assert pool.take("c", 1) == ([1], "It shares GPU 1 with other runs.")
    pool.release("b")
    assert pool.take("d", 1)[0] == [0]


def test_never_more_than_there_are() -> None:
    pool = GpuPool(range(2))
    gpus, note = pool.take("a", 4)
    assert gpus == [0, 1] and note == "4 GPUs were asked for, and this machine has 2: it got those."


@pytest.mark.parametrize("wanted", [0, -1])
def test_who_asks_for_none_gets_none_and_no_note(wanted: int) -> None:
    pool = GpuPool(range(2))
    assert pool.take("a", wanted) == ((), None)
    assert pool.take("b", 2)[1] is None


def test_release_of_a_stranger_changes_nothing() -> None:
    pool = GpuPool(range(1))
    pool.take("a", 1)
    pool.release("nobody")
    assert pool.take("b", 1)[1] is not None


def test_what_was_handed_out_before_is_held_again() -> None:
    pool = GpuPool(range(3))
    pool.hold("a", [1, 7])
    assert pool.of("a") == [1]
    assert pool.take("b", 2) == ([0, 2], None)
    pool.release("a")
    assert pool.take("c", 1) == ([1], None)
