"""``windlass compute``."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Cli, History


def test_this_machine_is_always_a_compute_target(cli: Cli, history: History) -> None:
    assert cli("compute").out.splitlines()[1].startswith("local ")
    assert [entry["spec"]["name"] for entry in cli("compute", "--json").json["computes"]] == ["local"]
    assert cli("compute", "show", "local").out.startswith("Name")
    assert cli("compute", "show", "local", "--json").json["capacity"]["idle"] >= 1


def test_compute_targets_are_made_shown_and_deleted(cli: Cli, project: Path) -> None:
    made = cli("compute", "create", "cpu", "--vm-size", "standard_d2_v2", "--max-nodes", "3", "--idle-seconds", "60",
               "--tag", "team=a", "--description", "ours")  # fmt: skip
    assert (made.code, made.out) == (0, "cpu: 0 to 3 nodes\n")
    spec = cli("compute", "show", "cpu", "--json").json["spec"]
    assert (spec["vm_size"], spec["max_nodes"], spec["idle_seconds_before_scaledown"]) == ("STANDARD_D2_V2", 3, 60)
    assert (spec["tags"], spec["description"]) == ({"team": "a"}, "ours")
    again = cli("compute", "create", "cpu")
    assert again.code == 1 and "exists" in again.err and "windlass compute delete cpu" in again.err
    wrong = cli("compute", "create", "other", "--vm-size", "STANDARD_D2_V22")
    assert wrong.code == 1 and "STANDARD_D2_V2" in wrong.err
    assert cli("compute", "delete", "cpu").out == "cpu: deleted\n"
    assert cli("compute", "show", "cpu").code == 1
    kept = cli("compute", "delete", "local")
    assert kept.code == 1 and "local" in kept.err
