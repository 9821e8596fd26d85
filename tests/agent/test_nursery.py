"""The agent's end of the nursery."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlassd.agent.leftovers import kill_processes_of, processes_of
from windlassd.agent.nursery import Keeper, Nursery


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()
    assert made._process is not None
    made._process.wait(30)


def pid_of(nursery: Nursery) -> int:
    assert nursery._process is not None
    return nursery._process.pid


def launch(tmp_path: Path, name: str, script: str) -> str:
    env = {"AZUREML_RUN_ID": f"{tmp_path.name}_{name}", "WINDLASS_HOME": os.environ["WINDLASS_HOME"]}
    rank = {"argv": [sys.executable, "-c", script], "env": env, "log": str(tmp_path / f"{name}.log")}
    path = tmp_path / f"{name}.json"
    path.write_text(
        json.dumps({"ranks": [rank], "cwd": str(tmp_path), "exit_file": str(tmp_path / f"{name}.exit.json")})
    )
    return str(path)


def done(keeper: Keeper) -> Any:
    wake = os.eventfd(0)
    try:
        for message in keeper.messages(wake, lambda: 30.0):
            assert message is not None, "nothing for 30 s"
            if "done" in message:
                return message["done"]
        return None
    finally:
        os.close(wake)
        keeper.close()


def test_a_killed_nursery_is_replaced_at_the_next_start(nursery: Nursery, tmp_path: Path) -> None:
    before = pid_of(nursery)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert done(nursery.start(launch(tmp_path, "a", "print('ran')")))["ended"][0]["status"] == 0
    assert (tmp_path / "a.log").read_text() == "ran\n" and pid_of(nursery) != before


def test_runs_outlive_their_nursery(nursery: Nursery, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    keeper = nursery.start(launch(tmp_path, "a", f"open({str(fifo)!r}).read(); print('ran')"))
    with open(fifo, "w"):
        os.kill(pid_of(nursery), signal.SIGKILL)
    report = done(keeper)
    assert report["agent_lost"] is False and (tmp_path / "a.log").read_text() == "ran\n"


def test_an_idle_nursery_ends_when_closed(tmp_path: Path) -> None:
    made = Nursery()
    made.close()
    assert made._process is not None and made._process.wait(30) == 0


def test_many_at_once(nursery: Nursery, tmp_path: Path) -> None:
    reports: list[Any] = []

    def one(number: int) -> None:
        reports.append(done(nursery.start(launch(tmp_path, f"n{number}", f"raise SystemExit({number})"))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(os.waitstatus_to_exitcode(r["ended"][0]["status"]) for r in reports) == list(range(8))


def test_the_deadline_and_the_wake_up_both_yield_none(nursery: Nursery, tmp_path: Path) -> None:
    keeper = nursery.start(launch(tmp_path, "a", "import signal; signal.pause()"))
    wake, seconds = os.eventfd(0), [30.0]
    told = keeper.messages(wake, lambda: seconds[0])
    assert "started" in (next(told) or {})
    os.eventfd_write(wake, 1)
    assert next(told) is None
    seconds[0] = 0.0
    assert next(told) is None
    seconds[0] = 30.0
    keeper.kill()
    assert [kind for message in told for kind in (message or {})] == ["exited", "done"]
    keeper.terminate()  # orders to one that has ended do nothing
    keeper.close()
    os.close(wake)


def test_leftovers_are_found_by_the_runs_id_and_killed(nursery: Nursery, tmp_path: Path) -> None:
    keeper = nursery.start(launch(tmp_path, "a", "import os, signal; os.setsid(); signal.pause()"))
    other = nursery.start(launch(tmp_path, "ab", "import signal; signal.pause()"))
    wake = os.eventfd(0)
    for one in (keeper, other):
        assert "started" in (next(one.messages(wake, lambda: 30.0)) or {})
    assert len(processes_of(f"{tmp_path.name}_a")) == 1
    kill_processes_of(f"{tmp_path.name}_a")
    assert processes_of(f"{tmp_path.name}_a") == [] and len(processes_of(f"{tmp_path.name}_ab")) == 1
    keeper.close()
    other.close()
    os.close(wake)


def test_a_keeper_says_who_it_is_before_it_starts_anything(nursery: Nursery, tmp_path: Path) -> None:
    keeper = nursery.start(launch(tmp_path, "a", "import os; print(os.getppid())"))
    assert keeper.pid is None
    assert done(keeper)["agent_lost"] is False
    assert (tmp_path / "a.log").read_text() == f"{keeper.pid}\n"


def test_a_keeper_that_a_dying_nursery_did_not_fork_says_nothing(nursery: Nursery, tmp_path: Path) -> None:
    os.kill(pid_of(nursery), signal.SIGSTOP)
    keeper = nursery.start(launch(tmp_path, "a", "print('ran')"))
    nursery.end()
    assert done(keeper) is None and keeper.pid is None  # nothing was started: it may be asked for again
    assert done(nursery.start(launch(tmp_path, "b", "print('ran')")))["ended"][0]["status"] == 0


def test_a_stopped_keeper_can_be_ended_with_its_ranks(nursery: Nursery, tmp_path: Path) -> None:
    keeper = nursery.start(launch(tmp_path, "a", "import signal; signal.pause()"))
    wake = os.eventfd(0)
    told = keeper.messages(wake, lambda: 30.0)
    assert "started" in (next(told) or {}) and keeper.pid is not None
    os.kill(keeper.pid, signal.SIGSTOP)
    keeper.kill()  # is not heard
    keeper.end()
    assert list(told) == []
    kill_processes_of(f"{tmp_path.name}_a")
    keeper.close()
    os.close(wake)
