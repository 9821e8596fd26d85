"""``windlass server``."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Cli
from conftest import processes_of
from windlass.cli.server import _agents_elsewhere


def test_status_starts_nothing(cli: Cli, project: Path, home: Path) -> None:
    said = cli("server", "status")
    assert said.code == 0 and said.out.startswith("ws: not running")
    absent = cli("server", "--json").json
    assert absent == {"running": False, "workspace": "ws", "workspace_dir": str(home / "workspaces" / "ws")}
    assert cli("server", "stop").out == "ws: not running\n"
    assert processes_of(home) == [] and not (home / "workspaces").exists()


def test_start_status_stop(cli: Cli, project: Path, home: Path) -> None:
    started = cli("server", "start")
    assert started.code == 0 and started.out.startswith("ws: running (pid ")
    about = cli("server", "status", "--json").json
    assert about["running"] is True and about["workspace"] == "ws" and about["version"] and about["home"] == str(home)
    assert about["web"].startswith("http://127.0.0.1:") and f"(pid {about['pid']})" in started.out
    assert about["web"] in cli("server").out
    assert cli("server", "start").out == started.out, "a second start finds the first server"
    assert cli("server", "stop").out == "ws: stopped\n"
    assert cli("server", "status").out.startswith("ws: not running")
    assert cli("server", "start", "--json").json["pid"] != about["pid"]


def test_status_says_where_nodes_call_and_what_keeps_them_from_it() -> None:
    about = {"agents_at": ["https://10.0.0.1:4443"], "agents_trouble": None}
    assert dict(_agents_elsewhere(about)) == {"Nodes call": "https://10.0.0.1:4443", "Trouble": ""}
    taken = {"agents_at": None, "agents_trouble": "The port is taken."}
    assert dict(_agents_elsewhere(taken)) == {"Nodes call": "", "Trouble": "The port is taken."}


def test_stop_waits_for_runs_unless_forced(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text("import time\ntime.sleep(60)\n")
    run_id = cli("submit", "-d", "train.py").out.strip()
    refused = cli("server", "stop")
    assert refused.code == 1 and run_id in refused.err and "--force" in refused.err
    assert cli("server", "stop", "--force").code == 0
