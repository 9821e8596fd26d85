"""The keeper with real small processes: exits, signals, and nothing left behind whoever dies."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from windlassd.agent.keeper import RANK_OOM_SCORE
from windlassd.agent.leftovers import processes_of
from windlassd.agent.nursery import Keeper, Nursery

HIDDEN = "import os, signal; os.setsid(); print('hidden', flush=True); signal.pause()"
"""A grandchild in a session of its own."""
HIDES = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {HIDDEN!r}])\n"
DEEP = """
import os, signal
read, write = os.pipe()
if os.fork():
    os.read(read, 1)
    os._exit(0)
for depth in range(60):
    os.setsid()
    if os.fork():
        signal.pause()
os.write(write, b"x")
signal.pause()
"""
"""Leaves sixty processes, each the parent of the next."""
WAITS = "import signal; print('up', flush=True); signal.pause()"


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()
    assert made._process is not None
    made._process.wait(30)


@dataclass
class Started:
    """A keeper with what it told so far."""

    keeper: Keeper
    told: Iterator[Any]
    exit_file: Path
    logs: list[Path]
    run_id: str

    def until(self, kind: str) -> Any:
        return next(message[kind] for message in self.told if kind in message)

    def report(self) -> Any:
        done = self.until("done")
        assert json.loads(self.exit_file.read_text()) == done
        return done

    def text(self, rank: int = 0) -> str:
        return self.logs[rank].read_text()

    def wait_for(self, words: str, rank: int = 0) -> None:
        until(lambda: self.logs[rank].exists() and words in self.text(rank), f"{words!r} in {self.logs[rank]}")

    def gone(self) -> bool:
        """The keeper hung up."""
        return list(self.told) == []


@pytest.fixture
def start(nursery: Nursery, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []
    wake = os.eventfd(0, os.EFD_NONBLOCK)

    def start(*scripts: str, python: str = sys.executable) -> Started:
        number = len(started)
        run_id = f"{tmp_path.name}_{number}"
        env = {"AZUREML_RUN_ID": run_id, "WINDLASS_HOME": os.environ["WINDLASS_HOME"], "PATH": os.environ["PATH"]}
        logs = [tmp_path / f"{number}_{rank}.log" for rank in range(len(scripts))]
        ranks = [{"argv": [python, "-c", s], "env": env, "log": str(log)} for s, log in zip(scripts, logs, strict=True)]
        exit_file, launch = tmp_path / f"exit{number}.json", tmp_path / f"ranks{number}.json"
        launch.write_text(json.dumps({"ranks": ranks, "cwd": str(tmp_path), "exit_file": str(exit_file)}))
        keeper = nursery.start(str(launch))
        told = (message for message in keeper.messages(wake, lambda: 30.0) if _told(message))
        started.append(Started(keeper, told, exit_file, logs, run_id))
        return started[-1]

    yield start
    for one in started:
        one.keeper.close()
    os.close(wake)


def _told(message: Any) -> bool:
    assert message is not None, "the keeper said nothing for 30 s"
    return True


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for what no descriptor tells of: a few milliseconds at a time."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        select.select([], [], [], 0.005)


def ended(report: Any) -> list[int]:
    """What Python would say of each rank's end, by rank."""
    return [os.waitstatus_to_exitcode(e["status"]) for e in sorted(report["ended"], key=lambda e: e["rank"])]


def test_exit_codes_and_output(start: Callable[..., Started]) -> None:
    run = start("print('well')", "import sys; sys.stderr.write('ill'); sys.exit(3)")
    assert len(run.until("started")) == 2
    report = run.report()
    assert ended(report) == [0, 3] and report["agent_lost"] is False
    assert (run.text(0), run.text(1)) == ("well\n", "ill")
    assert all(e["peak_memory_bytes"] > 1 << 20 for e in report["ended"])


def test_a_signal_is_reported_as_one(start: Callable[..., Started]) -> None:
    run = start("import os; os.kill(os.getpid(), 11)")
    assert ended(run.report()) == [-signal.SIGSEGV]


def test_each_end_is_told_at_once(start: Callable[..., Started]) -> None:
    run = start(WAITS, "import sys; sys.exit(5)")
    run.until("started")
    first = run.until("exited")
    assert (first["rank"], os.waitstatus_to_exitcode(first["status"])) == (1, 5)
    run.keeper.kill()
    assert ended(run.report()) == [-signal.SIGKILL, 5]


def test_terminate_is_sigterm_with_its_default_restored(start: Callable[..., Started]) -> None:
    run = start(WAITS)
    run.wait_for("up")
    run.keeper.terminate()
    assert ended(run.report()) == [-signal.SIGTERM]


def test_no_signal_is_ignored_in_a_rank(start: Callable[..., Started]) -> None:
    run = start("print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('SigBlk', 'SigIgn'))])")
    run.report()
    blocked, ignored = (int(mask, 16) for mask in eval(run.text()))
    own = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # Python itself ignores these
    assert blocked == 0 and ignored & ~own == 0


def test_a_rank_inherits_nothing_of_the_keepers(start: Callable[..., Started]) -> None:
    run = start("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))), os.readlink('/proc/self/fd/0'))")
    run.report()
    assert run.text() == "[0, 1, 2, 3] /dev/null\n"  # 3 is that listing's own


def test_ranks_are_what_the_kernel_kills_first(start: Callable[..., Started]) -> None:
    run = start("print(open('/proc/self/oom_score_adj').read())")
    run.report()
    assert int(run.text()) == RANK_OOM_SCORE


def test_a_hidden_grandchild_ends_with_the_run(start: Callable[..., Started]) -> None:
    run = start(HIDES)
    assert ended(run.report()) == [0]
    assert processes_of(run.run_id) == []


def test_a_deep_tree_of_hidden_processes_ends_with_the_run(start: Callable[..., Started]) -> None:
    run = start(DEEP)
    assert ended(run.report()) == [0]
    assert processes_of(run.run_id) == []


def test_a_process_that_was_told_to_die_takes_its_children_along(start: Callable[..., Started]) -> None:
    run = start("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HIDES + WAITS)
    run.wait_for("hidden")
    run.wait_for("up")
    run.keeper.terminate()
    run.keeper.kill()
    assert ended(run.report()) == [-signal.SIGKILL]
    assert processes_of(run.run_id) == []


def test_a_killed_keeper_takes_ranks_and_grandchildren_along(start: Callable[..., Started]) -> None:
    run = start(HIDES + WAITS)
    (rank,) = run.until("started")
    run.wait_for("hidden")
    keeper = psutil.Process(rank).ppid()
    os.kill(keeper, signal.SIGKILL)
    assert run.gone() and not run.exit_file.exists()
    until(lambda: processes_of(run.run_id) == [], "no process of the run is left")


def test_a_lost_agent_ends_everything_and_stands_in_the_exit_file(start: Callable[..., Started]) -> None:
    run = start(HIDES + WAITS, WAITS)
    run.wait_for("hidden")
    run.wait_for("up", 1)
    run.keeper.close()
    until(run.exit_file.exists, "exit.json")
    report = json.loads(run.exit_file.read_text())
    assert report["agent_lost"] is True and ended(report) == [-signal.SIGKILL] * 2
    assert processes_of(run.run_id) == []


def test_a_missing_interpreter_is_named(start: Callable[..., Started]) -> None:
    run = start("pass", python="/no/such/python")
    report = run.report()
    assert report["ended"] == [{"rank": 0, "error": "No such file or directory: /no/such/python"}]


def test_one_rank_that_cannot_start_ends_those_that_did(start: Callable[..., Started], tmp_path: Path) -> None:
    (tmp_path / "1_1.log").mkdir()  # the log of the second rank cannot be opened
    start("pass").report()
    run = start(WAITS, WAITS)
    report = run.report()
    assert any("1_1.log" in e.get("error", "") for e in report["ended"])
    assert processes_of(run.run_id) == []
