"""``Run``: tags, details, listing, metrics and the context inside a job."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from sdk.fake_server import FakeServer
from windlass import ComputeTarget, Experiment, Run, Workspace
from windlass._offline_run import _OfflineRun
from windlass.errors import NotOffered, RunEnvironmentException, ServiceUnavailable, UserErrorException


@pytest.fixture
def job(fake: FakeServer, run: Run, ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AZUREML_RUN_ID", run.id)
    monkeypatch.setenv("WINDLASS_WORKSPACE_DIR", ws._dir)
    monkeypatch.setenv("WINDLASS_SPOOL_DIR", str(tmp_path / "spool"))
    fake.calls.clear()
    return Run.get_context()


def test_the_context_of_a_job_logs_without_the_network(fake: FakeServer, job: Run, run: Run) -> None:
    assert isinstance(job, Run) and job.id == run.id
    job.log("loss", 0.5)
    job.log_list("l", [1, 2])
    job.log_row("r", x=1, y=2.0)
    job.log_table("t", {"x": [1, 2]})
    assert fake.calls == []
    job.flush()
    ((name, offset),) = fake.flushes
    assert name.endswith(".spool") and offset > 100
    assert job.experiment.name == "digits"


def test_flush_waits_until_all_is_acknowledged(fake: FakeServer, job: Run) -> None:
    job.log("loss", 0.5)
    fake.flush_answers = [0, 10]
    job.complete()
    assert len(fake.flushes) == 3
    fake.flush_answers = [0] * 50
    with pytest.raises(ServiceUnavailable, match="follow later"):
        job.flush(timeout_seconds=0.2)


def test_get_metrics_in_every_shape(fake: FakeServer, run: Run) -> None:
    fake.metrics = {
        "one": {"type": "float", "values": [0.5]},
        "many": {"type": "float", "values": [1, "NaN", "-Infinity"]},
        "whole": {"type": "int", "values": [3, 4]},
        "text": {"type": "json", "values": ["a"]},
        "list": {"type": "json", "values": [[1, 2], [3]]},
        "row": {"type": "json", "values": [{"x": 1, "y": "a"}]},
        "rows": {"type": "json", "values": [{"x": 1}, {"x": 2}]},
        "table": {"type": "json", "values": [{"x": [1, 2], "y": [3, 4]}, {"x": [5], "y": [6]}]},
    }
    metrics = run.get_metrics()
    many = metrics.pop("many")
    assert many[0] == 1.0 and many[1] != many[1] and many[2] == float("-inf")
    assert metrics == {
        "one": 0.5, "whole": [3, 4], "text": "a", "list": [1, 2, 3], "row": {"x": 1, "y": "a"},
        "rows": {"x": [1, 2]}, "table": {"x": [1, 2, 5], "y": [3, 4, 6]},
    }  # fmt: skip
    assert run.get_metrics(name="one") == {"one": 0.5}
    fake.metrics["one"] = {"type": "json", "values": [{"x": "NaN", "y": "NaN"}], "exact": '[{"x": NaN, "y": "NaN"}]'}
    row = run.get_metrics(name="one")["one"]
    assert row["x"] != row["x"] and row["y"] == "NaN"
    fake.metrics["one"] = {"type": "float", "values": [0.5]}
    child = fake.add_run({"experiment": "digits", "script": "t", "snapshot_id": "s"}, parent_id=run.id)
    assert run.get_metrics("one", recursive=True) == {"one": [0.5, 0.5]}
    assert [r.id for r in run.get_children()] == [child["id"]]
    assert run.get_metrics("one", recursive=True, run_type="hyperdrive") == {"one": 0.5}


def test_files_of_metrics_from_outside_say_where_they_work(run: Run) -> None:
    with pytest.raises(RunEnvironmentException, match=r"Run.get_context"):
        run.log_confusion_matrix("a", {"schema_type": "confusion_matrix", "schema_version": "v1", "data": {
            "class_labels": ["0", "1"], "matrix": [[1, 0], [0, 1]]}})  # fmt: skip


def test_outside_any_run() -> None:
    assert isinstance(Run.get_context(), _OfflineRun)
    with pytest.raises(RunEnvironmentException, match="not part of a run"):
        Run.get_context(allow_offline=False)


def test_tags_properties_and_name(run: Run) -> None:
    run.tag("kind", "baseline")
    run.tag("alone")
    run.set_tags({"n": 3})
    assert run.tags == run.get_tags() == {"kind": "baseline", "alone": "", "n": "3"}
    run.remove_tags(["alone", "n"])
    assert run.tags == {"kind": "baseline"}
    run.add_properties({"author": "me"})
    with pytest.raises(UserErrorException, match="never change"):
        run.add_properties({"author": "me"})
    assert run.properties["author"] == "me" and run.properties["ContentSnapshotId"] == "s"
    run.description = "on the whole data"
    assert run.description == "on the whole data"
    run.display_name = "a better name"
    assert run.display_name == run.name == "a better name"


def test_details_read_as_dictionary_and_as_attributes(fake: FakeServer, run: Run) -> None:
    fake.files = {"azureml-logs/70_driver_log.txt": b"hello", "outputs/model.pkl": b"x"}
    fake.runs[run.id].update(status="Failed", started=1000.0, ended=1001.5, exit_code=3,
                             reason={"code": "exit_code", "message": "The script exited with code 3."})  # fmt: skip
    details = run.get_details()
    assert details.status == details["status"] == run.status == "Failed"
    assert details["startTimeUtc"] == "1970-01-01T00:16:40.000000Z"
    assert details["runDefinition"]["arguments"] == ["--c", "1"] and details["runDefinition"]["script"] == "train.py"
    assert details["error"]["error"]["message"] == "The script exited with code 3."
    assert details["logFiles"] == {
        "azureml-logs/70_driver_log.txt": f"http://127.0.0.1:1/runs/{run.id}/files/azureml-logs/70_driver_log.txt"
    }
    wanted = (
        "runId target status startTimeUtc endTimeUtc properties inputDatasets outputDatasets runDefinition logFiles"
    )
    assert set(wanted.split()) | {"submittedBy", "error"} <= set(details)
    assert run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"] == "hello"
    with pytest.raises(AttributeError, match="statusReason"):
        _ = details.nothing


def test_runs_come_newest_first_page_by_page(fake: FakeServer, experiment: Experiment) -> None:
    for number in range(230):
        fake.add_run(
            {"experiment": "digits", "script": "t", "snapshot_id": "s", "tags": {"even": str(number % 2 == 0)}}
        )
    fake.add_run({"experiment": "other", "script": "t", "snapshot_id": "s"})
    fake.calls.clear()
    newest = list(itertools.islice(experiment.get_runs(), 2))
    assert len(fake.calls) == 1, "later pages are asked for when they are needed"
    runs = list(experiment.get_runs())
    assert len(runs) == 230 and [r.id for r in runs[:2]] == [r.id for r in newest]
    assert [r.number for r in runs[:3]] == [230, 229, 228]
    assert len(list(experiment.get_runs(tags={"even": "True"}))) == 115
    assert len(list(Run.list(experiment, tags="even", status="NotStarted"))) == 230
    assert list(Run.list(experiment, status="Completed")) == []
    assert list(experiment.get_runs(type="hyperdrive")) == [] == list(experiment.get_runs(properties={"a": "b"}))
    with pytest.raises(UserErrorException, match=r"Completd.*'Completed'"):
        list(Run.list(experiment, status="Completd"))


def test_get_run_and_unknown_ones(ws: Workspace, run: Run, experiment: Experiment) -> None:
    assert ws.get_run(run.id) == run == Run(experiment, run.id)
    with pytest.raises(UserErrorException, match="There is no run 'nope'"):
        ws.get_run("nope")
    with pytest.raises(UserErrorException, match="belongs to the experiment 'digits'"):
        Run(Experiment(ws, "other"), run.id)


def test_cancel_and_representations(fake: FakeServer, run: Run) -> None:
    run.cancel()
    assert run.get_status() == "CancelRequested"
    assert run.id in repr(run) and "CancelRequested" in str(run)
    fake.runs[run.id]["experiment"] = "<b>&"
    assert "<b>" not in run._repr_html_() and "&lt;b&gt;&amp;" in run._repr_html_()


def test_what_is_not_offered_says_so(run: Run) -> None:
    for call in (run.clean, run.get_secret, run.start):
        with pytest.raises(NotOffered, match=r"Run.* is not offered by Windlass yet"):
            call()


def test_runs_of_a_compute_target(fake: FakeServer, run: Run, ws: Workspace) -> None:
    fake.add_run({"experiment": "digits", "script": "t", "snapshot_id": "s", "target": "gpus"}, status="Running")
    fake.add_run({"experiment": "digits", "script": "", "snapshot_id": "", "target": "gpus", "kind": "interactive"})
    fake.computes["gpus"] = {**fake.computes["local"], "spec": {**fake.computes["local"]["spec"], "name": "gpus"}}
    found = list(Run.list_by_compute(ComputeTarget(ws, "gpus")))
    assert [(r.number, r.type) for r in found] == [(2, "azureml.scriptrun")]


def test_status_environment_and_logs(fake: FakeServer, run: Run, tmp_path: Path) -> None:
    fake.runs[run.id].update(status="Queued", reason={"code": "waits_for_nodes", "message": "2nd in line"})
    assert run.get_detailed_status() == {"status": "Queued", "details": "2nd in line"}
    asked = {"name": "mine", "pip_packages": ["numpy==1.26"], "python_version": "3.9"}
    fake.runs[run.id]["spec"]["environment"] = asked
    environment = run.get_environment()
    assert (environment.name, list(environment.python.conda_dependencies.pip_packages)) == ("mine", ["numpy==1.26"])
    fake.files = {"azureml-logs/70_driver_log.txt": b"hello", "outputs/model.pkl": b"x"}
    assert run.get_all_logs(str(tmp_path / "logs")) == [str(tmp_path / "logs/azureml-logs/70_driver_log.txt")]
    assert (tmp_path / "logs/azureml-logs/70_driver_log.txt").read_bytes() == b"hello"


def test_details_as_the_last_line_of_a_cell_are_short_and_escaped() -> None:
    from windlass._details import Details

    shown = Details(runId="r_1", status="Completed", properties={"<b>": "x"})._repr_html_()
    assert "r_1" in shown.split("<details>")[0] and "<b>" not in shown and "&lt;b&gt;" in shown
