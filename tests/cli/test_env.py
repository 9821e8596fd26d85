"""``windlass env``."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Cli, History


def test_environments_are_listed_and_an_unknown_one_is_refused(cli: Cli, history: History) -> None:
    (entry,) = cli("env", "--json").json["environments"]
    assert cli("env").out.splitlines()[1].startswith(entry["key"][:12] + "  " + entry["builder"])
    said = cli("env", "remove", "nonsense")
    assert said.code == 1 and "'nonsense'" in said.err and "windlass env" in said.err


def test_an_environment_is_removed_by_the_beginning_of_its_key(cli: Cli, project: Path) -> None:
    assert cli("submit", "train.py").code == 0
    (entry,) = cli("env", "--json").json["environments"]
    assert cli("env", "remove", entry["key"][:6]).out == f"{entry['key'][:12]}: removed\n"
    assert cli("env", "--json").json == {"environments": []}
    assert "No environment" in cli("env").err
