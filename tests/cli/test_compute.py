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
    assert cli("compute", "update", "cpu", "--max-nodes", "5", "--min-nodes", "1").out == "cpu: 1 to 5 nodes\n"
    spec = cli("compute", "show", "cpu", "--json").json["spec"]
    assert (spec["max_nodes"], spec["idle_seconds_before_scaledown"], spec["tags"]) == (5, 60, {"team": "a"})
    assert cli("compute", "update", "cpu", "--min-nodes", "9").code == 1
    assert cli("compute", "delete", "cpu").out == "cpu: deleted\n"
    assert cli("compute", "show", "cpu").code == 1
    kept = cli("compute", "delete", "local")
    assert kept.code == 1 and "local" in kept.err


def test_sizes_are_listed(cli: Cli, history: History) -> None:
    assert "STANDARD_NC6" in cli("compute", "sizes").out and "1 K80" in cli("compute", "sizes").out
    assert {"name": "STANDARD_D1", "vcpus": 1, "memory_gb": 3.5, "gpus": 0, "gpu_name": None, "own": False} in cli(
        "compute", "sizes", "--json"
    ).json["sizes"]
