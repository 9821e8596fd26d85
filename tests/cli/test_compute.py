"""``windlass compute``."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Cli, History
from windlass.cli.compute import _amounts, _engine


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


def test_a_target_elsewhere_says_where_it_is_and_what_a_node_gets() -> None:
    spec = {"engine": "ray", "options": {"address": "head:6379"}}
    assert _engine(spec) == "ray at head:6379" and _engine({"engine": "local", "options": {}}) == "local"
    assert _amounts({"CPU": 2.0, "GPU": 0.5, "memory": 2.0**30}) == "CPU 2, GPU 0.5, memory 1.0 GB"


def test_sizes_are_listed(cli: Cli, history: History) -> None:
    assert "STANDARD_NC6" in cli("compute", "sizes").out and "1 K80" in cli("compute", "sizes").out
    assert {"name": "STANDARD_D1", "vcpus": 1, "memory_gb": 3.5, "gpus": 0, "gpu_name": None, "own": False} in cli(
        "compute", "sizes", "--json"
    ).json["sizes"]


def test_the_line_is_listed_and_priority_changes_it(cli: Cli, project: Path) -> None:
    (project / "wait.py").write_text("import signal; signal.pause()")
    (project / "one.py").write_text("print(1)")
    cli("compute", "create", "small", "--max-nodes", "1")
    assert cli("compute", "queue", "small").err == "Nobody waits for small.\n"
    first, second, third = (
        cli("submit", script, "--target", "small", "--detach", "--max-seconds", "600").out.strip()
        for script in ("wait.py", "one.py", "one.py")
    )
    ids = [entry["run_id"] for entry in cli("compute", "queue", "small", "--json").json["waiting"]]
    while ids != [second, third]:
        ids = [entry["run_id"] for entry in cli("compute", "queue", "small", "--json").json["waiting"]]
    assert f"{second} is first in line" in cli("compute", "queue", "small").out
    moved = cli("run", "update", third, "--priority", "2")
    assert moved.code == 0 and "1st in line on small, waits for 1 node, 0 free" in moved.out
    assert first in moved.out and "at the latest" in moved.out
    lines = cli("compute", "queue", "small", "--limit", "1")
    assert third in lines.out and second not in lines.out.replace(third, "") and "1 more wait" in lines.err
    shown = cli("compute", "show", "small")
    assert "0 idle, 1 busy" in shown.out and f"small-0  running  {first}" in shown.out and third in shown.out
    late = cli("run", "update", first, "--priority", "9")
    assert late.code == 1 and "may change until then" in late.err
    assert cli("submit", "one.py", "--target", "small", "--detach", "--priority", "5000000").code == 1
    assert cli("run", "update", third).code == 2
    kept = cli("compute", "delete", "small")
    assert kept.code == 1 and first in kept.err
    cli("stop", second, third, first)
