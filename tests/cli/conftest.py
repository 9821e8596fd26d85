"""The command line over real servers: one workspace that tests only read, and an empty one for each that writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from windlass.cli import main

COMMAND = [sys.executable, "-c", "import sys; from windlass.cli import main; sys.exit(main())"]
GOOD = """
import os, time
from azureml.core import Run
run = Run.get_context()
for step in range(4):
    run.log("loss", 4.0 - step)
run.log("words", "two words")
print("trained")
os.makedirs("outputs/model", exist_ok=True)
open("outputs/model/weights.txt", "w").write("12345")
open("outputs/model/notes.txt", "w").write("n")
"""


@dataclass
class Said:
    """What a command line answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1, "--json is one line"
        return json.loads(self.out)


Cli = Callable[..., Said]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line in this process."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """A folder with a script and a config.json, that we are in; its workspace is not made yet."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "train.py").write_text("import sys\nprint('arguments:', *sys.argv[1:])\n")
    (folder / "config.json").write_text('{"workspace": "ws"}')
    monkeypatch.chdir(folder)
    return folder


@dataclass
class History:
    """A workspace with one run that completed (and left a model) and one that failed."""

    home: Path
    folder: Path
    good: str
    bad: str


@pytest.fixture(scope="session")
def made_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    home, folder = tmp_path_factory.mktemp("shared-home"), tmp_path_factory.mktemp("shared") / "digits"
    folder.mkdir()
    (folder / "good.py").write_text(GOOD)
    (folder / "bad.py").write_text("import sys\nprint('about to fail')\nsys.exit(3)\n")
    environment = {**os.environ, "WINDLASS_HOME": str(home)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], cwd=folder, env=environment, text=True, capture_output=True, timeout=60
        )

    run("init", "ws").check_returncode()
    good = run("submit", "good.py", "--name", "the good one", "-t", "kind=base", "--json")
    good.check_returncode()
    bad = run("submit", "bad.py", "--json")
    assert bad.returncode == 1, bad.stderr
    history = History(home, folder, json.loads(good.stdout)["id"], json.loads(bad.stdout)["id"])
    yield history
    run("server", "stop", "--force")


@pytest.fixture
def draft(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script, over the shared workspace: for submits that are refused."""
    (tmp_path / "train.py").write_text("print('never')\n")
    (tmp_path / "config.json").write_text('{"workspace": "ws"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def history(made_history: History, home: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    """The shared workspace, seen from its folder. Change nothing in it."""
    monkeypatch.setenv("WINDLASS_HOME", str(made_history.home))
    monkeypatch.chdir(made_history.folder)
    return made_history
