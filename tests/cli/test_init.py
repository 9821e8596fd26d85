"""``windlass init``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cli.conftest import Cli
from windlass import Workspace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "My (first) project"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


def test_init_makes_a_workspace_that_from_config_finds(cli: Cli, folder: Path, home: Path) -> None:
    said = cli("init", "ws")
    assert (said.code, said.out) == (0, f"Workspace ws in {home / 'workspaces' / 'ws'}\n")
    assert json.loads((folder / "config.json").read_text()) == {"workspace": "ws"}
    assert "windlass submit" in said.err
    assert json.loads((home / "interpreter.json").read_text()) == {"python": sys.executable}
    assert Workspace.from_config().name == "ws"
    again = cli("init")
    assert again.code == 0 and "names it already" in again.err


def test_without_a_name_it_is_the_folders(cli: Cli, folder: Path) -> None:
    assert cli("init").out.startswith("Workspace My-first-project in ")


def test_an_azure_configuration_is_kept_as_it_is(cli: Cli, folder: Path) -> None:
    azure = {"subscription_id": "s-1", "resource_group": "rg", "workspace_name": "old"}
    (folder / "config.json").write_text(json.dumps(azure))
    assert cli("init").out.startswith("Workspace old in ")
    assert json.loads((folder / "config.json").read_text()) == azure
    assert Workspace.from_config().resource_group == "rg"


def test_another_name_than_the_folder_has_is_refused(cli: Cli, folder: Path, home: Path) -> None:
    (folder / "config.json").write_text('{"workspace": "ws"}')
    said = cli("init", "other")
    assert said.code == 1 and "'ws'" in said.err and str(folder / "config.json") in said.err
    assert not (home / "workspaces").exists()


def test_another_tools_config_json_is_left_alone(cli: Cli, folder: Path) -> None:
    (folder / "config.json").write_text('{"model": "bert"}')
    assert cli("init", "ws").code == 0
    assert (folder / "config.json").read_text() == '{"model": "bert"}'
    assert json.loads((folder / ".azureml" / "config.json").read_text()) == {"workspace": "ws"}


def test_a_parents_configuration_does_not_count(cli: Cli, folder: Path) -> None:
    (folder.parent / "config.json").write_text('{"workspace": "above"}')
    assert cli("init", "ws").code == 0
    assert Workspace.from_config().name == "ws"


@pytest.mark.parametrize("name, config", [("a/b", None), ("..", None), (None, "{broken")])
def test_bad_names_and_files_are_messages(cli: Cli, folder: Path, name: str | None, config: str | None) -> None:
    if config:
        (folder / "config.json").write_text(config)
    said = cli("init", *([name] if name else []))
    assert (said.code, said.out) == (1, "") and (name or "config.json") in said.err


def test_what_the_server_refuses_leaves_no_configuration(
    cli: Cli, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "interpreter.json").write_text(json.dumps({"python": "/bin/false"}))
    monkeypatch.setattr("windlass._transport.autostart.record_interpreter", lambda: False)
    said = cli("init", "ws")
    assert said.code == 1 and "ended while starting" in said.err
    assert not (folder / "config.json").exists()
