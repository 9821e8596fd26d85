from __future__ import annotations

from dataclasses import replace

import pytest

from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Lock, Work

LOCK = Lock("venv", "/usr/bin/python3", "3.11.2", "linux-x86_64-glibc2.36", ("numpy==1.0 --hash=sha256:00",))


def test_a_key_is_32_hex_digits() -> None:
    assert len(LOCK.key) == 32 and int(LOCK.key, 16)


@pytest.mark.parametrize(
    "change",
    [{"builder": "x"}, {"python": "/x"}, {"python_version": "3.11.3"}, {"platform": "x"}, {"requirements": ()}],
)
def test_each_part_but_the_notes_makes_another_key(change: dict[str, object]) -> None:
    assert replace(LOCK, **change).key != LOCK.key  # type: ignore[arg-type]
    assert replace(LOCK, notes=("x",)).key == LOCK.key


def test_index_options_are_no_packages() -> None:
    assert replace(LOCK, requirements=("--no-index", "a==1", "b==2")).package_count == 2


def test_work_gives_up_when_stopped_or_out_of_time() -> None:
    work = Work(lambda line: None, timeout_s=3600)
    work.give_up()
    work.stop.set()
    with pytest.raises(EnvironmentStopped):
        work.give_up()
    with pytest.raises(EnvironmentFailed, match="after 5 s"):
        Work(lambda line: None, timeout_s=5, started=-1e9).give_up()
