"""``windlass experiment``."""

from __future__ import annotations

from cli.conftest import Cli, History


def test_experiments_are_listed(cli: Cli, history: History) -> None:
    assert cli("experiment").out.splitlines()[1].split()[:2] == ["digits", "2"]
    (entry,) = cli("experiment", "list", "--json").json["experiments"]
    assert (entry["name"], entry["runs"]) == ("digits", 2) and entry["created"] <= entry["last"]
