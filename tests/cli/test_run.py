"""``ps``, ``stop`` and ``run``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.conftest import Cli, History
from windlass import Run
from windlass.cli._run_page import _environment


def test_ps_tells_status_reason_and_name_of_each_run(cli: Cli, history: History) -> None:
    said = cli("ps")
    head, bad, good = said.out.splitlines()
    assert head.split() == ["RUN", "NAME", "CREATED", "TOOK", "STATUS"]
    assert bad.startswith(history.bad) and bad.endswith("Failed: The script on local-0 exited with code 3.")
    assert good.startswith(history.good) and "the good one" in good and good.endswith("Completed")
    assert said.code == 0 and said.err == ""


def test_ps_json_has_the_wires_fields_and_exact_times(cli: Cli, history: History) -> None:
    bad, good = cli("ps", "--json").json["runs"]
    assert (bad["id"], bad["status"], bad["exit_code"]) == (history.bad, "Failed", 3)
    assert (good["tags"], good["display_name"], good["experiment"]) == ({"kind": "base"}, "the good one", "digits")
    assert good["created"] <= good["started"] <= good["ended"] < bad["ended"]


@pytest.mark.parametrize("filters, expected", [
    (["--status", "failed"], ["bad"]), (["--status", "Failed", "--status", "Completed"], ["bad", "good"]),
    (["--tag", "kind"], ["good"]), (["--tag", "kind=base"], ["good"]), (["--tag", "kind=other"], []),
    (["--experiment", "digits", "--limit", "1"], ["bad"]), (["--experiment", "other"], []),
    (["--all"], ["bad", "good"]), (["--metric", "loss<1000"], ["good"]), (["-m", "loss<1000", "-m", "max(x)>1"], []),
])  # fmt: skip
def test_ps_and_run_list_take_the_same_filters(
    cli: Cli, history: History, filters: list[str], expected: list[str]
) -> None:
    ids = [getattr(history, name) for name in expected]
    assert [run["id"] for run in cli("ps", "--json", *filters).json["runs"]] == ids
    assert [run["id"] for run in cli("run", "--json", *filters).json["runs"]] == ids
    assert [run["id"] for run in cli("run", "list", "--json", *filters).json["runs"]] == ids


def test_a_status_that_is_none_is_wrong_usage_with_near_matches(cli: Cli, history: History) -> None:
    said = cli("ps", "--status", "Complete")
    assert said.code == 2 and "Did you mean 'Completed'" in said.err


def test_where_no_run_fits_ps_says_how_to_start_one(cli: Cli, history: History) -> None:
    said = cli("ps", "--experiment", "other")
    assert (said.code, said.out) == (0, "") and "windlass submit" in said.err


def test_show_tells_all_about_a_run(cli: Cli, history: History) -> None:
    out = cli("run", "show", history.good).out
    for expected in (history.good, "the good one", "good.py", "kind=base", "Completed", "digits, run 1", "local-0"):
        assert expected in out
    assert f"/runs/{history.good}" in out and "loss" in out
    assert cli("run", "show", history.bad).out.count("code 3") == 2


def test_show_json_is_the_record_with_its_history(cli: Cli, history: History) -> None:
    record = cli("run", "show", "--json", history.good).json
    assert [entry["status"] for entry in record["history"]][-1] == "Completed"


@pytest.mark.parametrize("meant", ["last", "whole", "beginning", "end"])
def test_a_run_may_be_named_in_several_ways(cli: Cli, history: History, meant: str) -> None:
    text = {"last": "last", "whole": history.bad, "beginning": history.bad[:-2], "end": history.bad[-8:]}[meant]
    assert cli("run", "show", "--json", text).json["id"] == history.bad


def test_a_name_that_could_be_several_runs_lists_them(cli: Cli, history: History) -> None:
    said = cli("run", "show", "digits_")
    assert said.code == 1 and history.good in said.err and history.bad in said.err


def test_an_unknown_run_is_an_error_with_the_next_step(cli: Cli, history: History) -> None:
    for verb in (["logs"], ["run", "show"], ["run", "metrics"], ["run", "files"], ["stop"], ["open"]):
        said = cli(*verb, "nothing_1_2")
        assert (said.code, said.out) == (1, ""), verb
        assert "nothing_1_2" in said.err and "windlass ps" in said.err


def test_metrics_are_summed_up_and_listed(cli: Cli, history: History) -> None:
    lines = [line.split() for line in cli("run", "metrics", history.good).out.splitlines()]
    assert lines[0] == ["METRIC", "POINTS", "LAST", "LEAST", "GREATEST"]
    assert ["loss", "4", "1", "1", "4"] in lines and ["words", "1", "two", "words"] in lines
    points = cli("run", "metrics", history.good, "--name", "loss").out.splitlines()
    assert [line.split()[-1] for line in points] == ["VALUE", "4", "3", "2", "1"]
    assert cli("run", "metrics", history.good, "--json").json["metrics"]["loss"]["values"] == [4.0, 3.0, 2.0, 1.0]


def test_a_metric_that_is_not_there_is_named_with_near_matches(cli: Cli, history: History) -> None:
    said = cli("run", "metrics", history.good, "--name", "los")
    assert said.code == 1 and "'los'" in said.err and "Did you mean 'loss'" in said.err
    assert "logged nothing yet" in cli("run", "metrics", history.bad).err


def test_files_are_listed(cli: Cli, history: History) -> None:
    assert "5 B  outputs/model/weights.txt" in cli("run", "files", history.good).out
    files = {file["path"]: file["size"] for file in cli("run", "files", history.good, "--json").json["files"]}
    assert files["outputs/model/weights.txt"] == 5 and "azureml-logs/70_driver_log.txt" in files


def test_download_of_a_file_and_of_a_folder_prints_where_they_lie(
    cli: Cli, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("-w", "ws", "run", "download", history.good, "outputs/model/weights.txt").out == "weights.txt\n"
    assert (tmp_path / "weights.txt").read_text() == "12345"
    said = cli("-w", "ws", "run", "download", history.good, "outputs/model/", "here")
    assert said.out.splitlines() == ["here/outputs/model/notes.txt", "here/outputs/model/weights.txt"]
    assert (tmp_path / "here/outputs/model/weights.txt").read_text() == "12345"


def test_download_of_nothing_names_what_there_is(cli: Cli, history: History) -> None:
    said = cli("run", "download", history.good, "weights.txt")
    assert (said.code, said.out) == (1, "") and "outputs/model/weights.txt" in said.err


def test_stop_of_a_run_that_has_ended_says_so_and_goes_on_to_the_next(cli: Cli, history: History) -> None:
    said = cli("stop", "nothing", history.good)
    assert said.code == 1 and "'nothing'" in said.err
    assert said.out == f"{history.good}: already Completed\n"


def test_offline_runs_are_listed_and_replayed(cli: Cli, project: Path) -> None:
    offline = Run.get_context()
    offline.log("loss", 0.5)
    offline.child_run("fold 0").log("loss", 1)
    (kept,) = cli("run", "replay", "--json").json["offline_runs"]
    assert kept["id"] == offline.id and offline.id in cli("run", "replay").out
    made = cli("run", "replay", offline.id, "-e", "laptop", "--json").json["run"]
    shown = cli("run", "show", made, "--json").json
    assert (shown["experiment"], shown["status"]) == ("laptop", "Completed")
    again = cli("run", "replay", offline.id)
    assert again.code == 1 and "replayed already" in again.err
    assert [run["id"] for run in cli("ps", "--json").json["runs"]] == [made], "children are not listed by themselves"
    assert f"{made}_0  Completed" in cli("run", "show", made).out
    assert re.search(rf"Parent +{made}\n", cli("run", "show", made + "_0").out)


@pytest.mark.parametrize(("container", "says"), [
    ({"image": "a/b:1", "registry": "host:5000"}, "in host:5000/a/b:1; python"),
    ({"image": None, "registry": None, "dockerfile": "FROM x"}, "in an image made by a Dockerfile; python"),
    (None, "python"),
])  # fmt: skip
def test_the_image_of_a_run_is_told(container: dict[str, str] | None, says: str) -> None:
    asked = {"pip_packages": [], "conda_packages": [], "python_version": None, "user_managed": True,
             "interpreter": "python", "container": container}  # fmt: skip
    assert _environment({"spec": {"environment": asked}, "environment": {}}) == says
