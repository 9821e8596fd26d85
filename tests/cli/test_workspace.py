"""``windlass workspace``: usage, prune, backup, restore; and what deletes runs and experiments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.conftest import Cli, History


def test_the_bare_noun_lists_the_workspaces(cli: Cli, history: History) -> None:
    (entry,) = cli("workspace", "--json").json["workspaces"]
    assert entry["name"] == "ws" and entry["running"] is True
    assert cli("workspace").out.splitlines()[1].split()[:2] == ["ws", "runs"]


def test_usage_shows_where_the_room_goes(cli: Cli, history: History) -> None:
    answer = cli("workspace", "usage", "--json").json
    assert answer["total_bytes"] >= answer["database_bytes"] + answer["runs_bytes"] > 0
    assert {entry["id"] for entry in answer["biggest"]} == {history.good, history.bad}
    out = cli("workspace", "usage").out
    assert "Left on the disk" in out and history.good in out


def test_a_dry_run_of_prune_shows_and_deletes_nothing(cli: Cli, history: History) -> None:
    said = cli("workspace", "prune", "--older-than", "0s", "--dry-run")
    assert history.bad in said.out and "would be freed" in said.out, said
    failed = cli("workspace", "prune", "--older-than", "0s", "--status", "failed", "--dry-run", "--json").json
    assert [run["id"] for run in failed["runs"]] == [history.bad] and failed["bytes"] > 0
    assert cli("workspace", "prune", "--older-than", "30d", "--dry-run").err == "No run is that old.\n"
    assert len(cli("run", "--json").json["runs"]) == 2


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1 month", "1y"])
def test_an_age_needs_a_unit(cli: Cli, history: History, age: str) -> None:
    said = cli("workspace", "prune", "--older-than", age, "--dry-run")
    assert said.code == 2 and "as in 30d" in said.err.replace("\n", " ")


def test_a_backup_is_made_listed_checked_and_restored(
    cli: Cli, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "backups")
    said = cli("workspace", "backup", folder)
    assert said.code == 0, said.err
    (path,) = said.out.splitlines()
    assert os.path.dirname(path) == folder and "2 runs, " in said.err
    assert [entry["path"] for entry in cli("workspace", "backup", folder, "--list", "--json").json["backups"]] == [path]
    assert os.path.basename(path) in cli("workspace", "backup", folder, "--list").out
    assert "have their checksums" in cli("workspace", "backup", folder, "--verify").out
    for words in (["--list", "--verify"], ["--list", "--keep", "1"], ["--verify", "--keep", "1"]):
        refused = cli("workspace", "backup", folder, *words)
        assert refused.code == 2 and "cannot be had together" in refused.err, "no option is ignored"
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "home"))
    said = cli("workspace", "restore", folder, "--name", "copy")
    assert said.out == f"Workspace copy in {tmp_path}/home/workspaces/copy\n", said
    refused = cli("workspace", "restore", folder, "--name", "copy")
    assert refused.code == 1 and "pass --force" in refused.err


def test_runs_and_experiments_are_deleted(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text("open('outputs/x', 'wb').write(bytes(300000))\n")
    first, second, third = (cli("submit", "train.py", "-e", name, "--json").json["id"] for name in ("a", "b", "b"))
    said = cli("run", "delete", first)
    assert said.out == f"{first}: deleted\n" and said.err.endswith(" freed.\n")
    assert cli("run", "delete", first).code == 1
    assert cli("experiment", "--json").json["experiments"][0]["runs"] == 0
    assert cli("run", "delete", second, "--json").json["freed_bytes"] > 300_000
    said = cli("experiment", "delete", "b")
    assert said.out == "b: deleted, with 1 runs\n"
    assert cli("run", "--json").json["runs"] == []
    assert cli("workspace", "prune", "--older-than", "0s").out == "0 runs deleted\n"
    assert cli("server", "stop").code == 0
    assert third
