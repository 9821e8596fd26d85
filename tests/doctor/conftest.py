"""Real workspaces to damage: one is made once, with real runs, and copied for each test."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import end_processes_of
from windlass.specs.findings import OPEN, REPAIRED, Finding
from windlassd.doctor.alone import examine_alone
from windlassd.testing.harness import Workspace

SCRIPT = """
import os
from azureml.core import Run
run = Run.get_context()
for i in range(300):
    run.log("loss", 1.0 / (i + 1))
    run.log("step", i)
run.log("note", "a text")
os.makedirs("outputs/model", exist_ok=True)
open("outputs/model/weights.bin", "wb").write(b"weights" * 100)
open("outputs/notes.txt", "w").write("notes")
print("trained")
"""
_MACHINE = {"disk_low", "gpu_hidden", "disk_full"}
"""Findings about the machine that the tests run on."""


@dataclass
class Clinic:
    """A workspace that is stopped, to be damaged and examined."""

    home: Path
    good: str
    bad: str

    @property
    def dir(self) -> Path:
        return self.home / "workspaces" / "test"

    def run(self, *parts: str) -> Path:
        return self.dir.joinpath("runs", self.good, *parts)

    def doctor(self, *, repair: bool = False, deep: bool = False) -> list[Finding]:
        told: list[Mapping[str, Any]] = []
        found = examine_alone(str(self.dir), repair=repair, deep=deep, tell=told.append)
        assert told[-1]["done"]["problems"] == sum(finding.is_problem for finding in found)
        return [finding for finding in found if finding.code not in _MACHINE]

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the database, with nothing checked."""
        with closing(sqlite3.connect(self.dir / "windlass.db", isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def only(self, code: str, *, deep: bool = False) -> Finding:
        """The one finding there is; it has this code."""
        found = self.doctor(deep=deep)
        assert [finding.code for finding in found] == [code], found
        assert found[0].state == OPEN and found[0].detail and found[0].means and found[0].where
        return found[0]

    def repaired(self, *codes: str, deep: bool = False) -> None:
        """``--repair`` repairs just these, and afterwards nothing is found."""
        found = self.doctor(repair=True, deep=deep)
        assert [(finding.code, finding.state) for finding in found] == [(code, REPAIRED) for code in codes], found
        assert self.doctor(deep=True) == []

    def left(self, code: str, *, deep: bool = False) -> Finding:
        """``--repair`` can do nothing about the one finding; it says so and stays."""
        found = self.doctor(repair=True, deep=deep)
        assert [(finding.code, finding.state) for finding in found] == [(code, OPEN)], found
        return found[0]

    def lost(self) -> Sequence[str]:
        """Files in lost+found, without its index."""
        root = self.dir / "lost+found"
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.name != "index.jsonl")

    def index(self) -> str:
        return (self.dir / "lost+found" / "index.jsonl").read_text()


def make(home: Path) -> tuple[str, str]:
    """A workspace with one run that completed, one that failed, one that was canceled, and a model."""
    workspace = Workspace()
    good = workspace.submit(SCRIPT, tags={"kind": "base", "other": "x"})
    bad = workspace.submit("raise SystemExit(3)")
    assert workspace.wait(good).status.value == "Completed" and workspace.wait(bad).status.value == "Failed"
    register = {"name": "weights", "run_id": good, "path": "outputs/model", "request_id": "one"}
    workspace.client.post("/v1/models", register)
    workspace.stop()
    workspace.client.close()
    workspace.wait_until_gone()
    return good, bad


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    home = tmp_path_factory.mktemp("healthy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_HOME", str(home))
        good, bad = make(home)
        yield Clinic(home, good, bad)
        end_processes_of(home)


@pytest.fixture
def clinic(made: Clinic, home: Path) -> Clinic:
    """A copy of the workspace, under this test's home."""
    shutil.copytree(made.home, home, dirs_exist_ok=True, symlinks=True, copy_function=_copy)
    return Clinic(home, made.good, made.bad)


def _copy(source: str, target: str) -> None:
    if not os.path.islink(source) and os.path.exists(source):
        shutil.copy2(source, target)


Damage = Callable[[Clinic], None]
