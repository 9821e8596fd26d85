"""``windlass doctor``."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Cli, History
from conftest import end_processes_of, processes_of
from windlassd.testing.harness import Workspace

MACHINE = {"disk_low", "gpu_hidden", "disk_full"}


def codes(said: object) -> list[str]:
    return [f["code"] for f in said["findings"] if f["code"] not in MACHINE]  # type: ignore[index]


@pytest.fixture(scope="module")
def stopped_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose workspace has one run and no server."""
    home = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_HOME", str(home))
        workspace = Workspace("ws")
        workspace.wait(workspace.submit("print('ran')"))
        workspace.stop()
        workspace.client.close()
        workspace.wait_until_gone()
    yield home
    end_processes_of(home)


@pytest.fixture
def stopped(stopped_home: Path, project: Path, home: Path) -> Path:
    """A copy of that workspace, in a home of its own."""
    shutil.copytree(stopped_home, home, dirs_exist_ok=True, symlinks=True)
    return home / "workspaces" / "ws"


def test_a_healthy_workspace_with_its_server(cli: Cli, history: History) -> None:
    said = cli("doctor", "--deep")
    assert said.code == 0 and said.out.splitlines()[-1].startswith("ws: "), said
    assert "Checking database" in said.err and "error" not in said.out
    about = cli("doctor", "--json")
    assert about.code == 0 and codes(about.json) == [] and about.json["problems"] == 0 and about.err == ""


def test_a_stopped_workspace_is_examined_without_starting_anything(cli: Cli, stopped: Path, home: Path) -> None:
    said = cli("doctor", "--deep", "--json")
    assert said.code == 0 and codes(said.json) == [] and said.json["workspace"] == "ws"
    assert processes_of(home) == []


def test_problems_are_told_then_repaired(cli: Cli, stopped: Path) -> None:
    (stopped / "runs" / "whose_1" / "files").mkdir(parents=True)
    said = cli("doctor")
    assert said.code == 1
    assert "warning  run_folder_orphan  runs/whose_1\n" in said.out and "--repair: Moves it" in said.out
    assert said.out.endswith("`windlass doctor --repair` can repair 1 of them.\n")
    repaired = cli("doctor", "--repair")
    assert repaired.code == 0 and "repaired  run_folder_orphan  runs/whose_1\n" in repaired.out
    assert repaired.out.splitlines()[-1].endswith("1 repaired.") and not (stopped / "runs" / "whose_1").exists()
    assert codes(cli("doctor", "--json").json) == []


def test_json_has_every_field(cli: Cli, stopped: Path) -> None:
    (stopped / "runs" / "whose_1").mkdir()
    said = cli("doctor", "--json")
    (found,) = [f for f in said.json["findings"] if f["code"] == "run_folder_orphan"]
    assert said.code == 1 and set(found) == {
        "code", "severity", "where", "detail", "means", "repair", "advice", "state",
    }  # fmt: skip
    assert said.json["problems"] == 1 and said.json["repaired"] == 0


def test_when_no_server_can_start(cli: Cli, stopped: Path) -> None:
    (stopped / "windlass.db").write_bytes(b"junk" * 1000)
    assert cli("ps").code == 1
    said = cli("doctor")
    assert said.code == 1 and "error  database_damaged  windlass.db" in said.out and "backup" in said.out


def test_a_damaged_database_is_repaired_and_the_server_starts(cli: Cli, stopped: Path) -> None:
    with open(stopped / "windlass.db", "r+b") as db:
        db.seek(4096 * 8)
        db.write(b"\xff" * 100)
    said = cli("doctor", "--repair", "--deep", "--json")
    found = {f["code"]: f["state"] for f in said.json["findings"]}
    assert found["database_damaged"] == "repaired", found
    assert cli("ps", "--all", "--json").code == 0


def test_a_home_without_an_interpreter(cli: Cli, stopped: Path, home: Path) -> None:
    (home / "interpreter.json").write_text(json.dumps({"python": "/no/such/python"}))
    said = cli("doctor")
    assert said.code == 1 and "error  interpreter_missing" in said.out and "--repair: Records" in said.out
    assert cli("doctor", "--repair").code == 0
    assert json.loads((home / "interpreter.json").read_text())["python"] == sys.executable


def test_an_interpreter_that_has_no_server(cli: Cli, stopped: Path, home: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named windlassd' >&2\nexit 1\n")
    python.chmod(0o700)
    (home / "interpreter.json").write_text(json.dumps({"python": str(python)}))
    said = cli("doctor")
    assert said.code == 1 and "error  server_cannot_start" in said.out and "No module named windlassd" in said.out


def test_another_version_is_told_of(cli: Cli, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass.__version__", "99.0")
    said = cli("doctor", "--json")
    assert codes(said.json) == ["server_version"] and said.code == 1


def test_no_workspace_no_examination(cli: Cli, project: Path, home: Path) -> None:
    said = cli("doctor")
    assert said.code == 2 and "There is no workspace" in said.err and said.out == ""
    assert not (home / "workspaces").exists()
