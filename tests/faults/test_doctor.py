"""The doctor while everything happens: it takes nothing that is under way for damage, and harms nothing."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.evidence import MACHINE, Witnessed, assert_sound
from windlass._doctor import examine
from windlass.errors import AzureMLException
from windlass.specs.findings import NOTE, Finding
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace

BUSY = """
    for part in range(20):
        diary.log(run, 25)
        diary.say(5)
        diary.keep(1)
"""


class Round:
    """Examines a workspace over and over on a thread; what it found, and how often it could look."""

    def __init__(self, workspace: Workspace, chance: random.Random, repair: bool) -> None:
        self.found: list[Finding] = []
        self.looks = self.away = 0
        self._workspace = workspace
        self._chance = random.Random(chance.random())
        self._repair = repair
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)

    def __enter__(self) -> Round:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    def _go(self) -> None:
        while not self._over.is_set():
            repair, deep = self._repair and self._chance.random() < 0.5, self._chance.random() < 0.5
            try:
                for line in examine(self._workspace.dir, repair=repair, deep=deep):
                    if "finding" in line:
                        self.found.append(Finding.from_wire(line["finding"]))
                self.looks += 1
            except AzureMLException:  # the server was killed meanwhile
                self.away += 1

    def check(self) -> None:
        wrong = [f for f in self.found if f.severity != NOTE and f.code not in MACHINE]
        assert not wrong, "\n".join(f"{f.state} {f.code} {f.where}: {f.detail}" for f in wrong)
        assert self.looks, "the doctor never came to an end"


@pytest.mark.faults
@pytest.mark.parametrize("repair", [False, True])
def test_jobs_come_log_and_are_killed_under_the_doctors_eyes(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range], repair: bool
) -> None:
    for _ in rounds(2):
        with Round(workspace, chance, repair) as examined:
            runs = [Witnessed(workspace, tmp_path, BUSY).submit() for _ in range(6)]
            for run in chance.sample(runs, 2):
                workspace.wait_for(run.id, lambda record: record.started is not None or record.status.final)
                _kill(chance.choice(processes_of(run.id) or [0]))
            workspace.client.post(f"/v1/runs/{chance.choice(runs).id}/cancel", {})
            for run in runs:
                _hold_against_diary(run)
        examined.check()
    workspace.stop()
    workspace.wait_until_gone()
    assert_sound(workspace)


@pytest.mark.faults
def test_servers_and_agents_are_killed_under_the_doctors_eyes(
    workspace: Workspace, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    for _ in rounds(3):
        with Round(workspace, chance, repair=True) as examined:
            runs = [Witnessed(workspace, tmp_path, BUSY).submit() for _ in range(3)]
            _kill(workspace.server_pid())
            workspace.wait_for(runs[0].id, lambda record: record.started is not None or record.status.final)
            _kill(workspace.agent_pid())
            for run in runs:
                _hold_against_diary(run)
        examined.check()
    workspace.stop()
    workspace.wait_until_gone()
    assert_sound(workspace)


def test_a_run_that_went_well_leaves_a_sound_workspace(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, BUSY).submit()
    run.check(status="Completed", reason="completed")
    workspace.stop()
    workspace.wait_until_gone()
    assert_sound(workspace)
    os.chmod(kept := Path(workspace.dir, "runs", run.id, "files", "outputs", "file-000000.bin"), 0o600)
    kept.write_bytes(kept.read_bytes()[::-1])
    with pytest.raises(AssertionError, match="kept_file_changed"):
        assert_sound(workspace)


def _hold_against_diary(run: Witnessed) -> None:
    record = run.workspace.wait(run.id)
    run.check_points()
    run.check_files()
    if record.started:
        run.check_lines()


def _kill(pid: int) -> None:
    if pid:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
