"""Registered environments, experiments, workspace facts and compute targets, against a real server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from path.conftest import stop
from windlass import AmlCompute, ComputeTarget, CondaDependencies, Environment, Experiment
from windlass import Workspace as UserWorkspace
from windlass.errors import ComputeTargetException, NotOffered, UserErrorException
from windlass.experiment import ViewType
from windlassd.testing.harness import Workspace


@pytest.fixture
def ws(shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserWorkspace:
    monkeypatch.chdir(tmp_path)
    return UserWorkspace._at(shared.dir)


def _environment(name: str, *packages: str) -> Environment:
    made = Environment(name)
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=list(packages))
    return made


def test_versions_of_an_environment_count_its_changes(ws: UserWorkspace) -> None:
    first = _environment("env", "numpy").register(ws)
    assert (first.version, _environment("env", "numpy").register(ws).version) == ("1", "1")
    first.python.conda_dependencies.add_pip_package("scipy")
    first.environment_variables = {"A": "1"}
    assert first.register(ws).version == "2" and Environment.get(ws, "env").environment_variables == {"A": "1"}
    assert "scipy" in list(Environment.get(ws, "env").python.conda_dependencies.pip_packages)
    assert list(Environment.get(ws, "env", version="1").python.conda_dependencies.pip_packages) == ["numpy"]
    own = _environment("env", "torch")
    own.version = "rc-1"
    assert own.register(ws).version == "rc-1" and _environment("env", "x").register(ws).version == "3"
    Environment.label(ws, "env", "1", ["prod"])
    Environment.label(ws, "env", "2", ["prod", "old"])
    assert Environment.get(ws, "env", label="prod").version == "2"
    assert Environment.get(ws, "env", label="latest").version == "3"
    assert ws.environments["env"].version == "3" and Environment.list(ws)["env"].name == "env"


def test_environments_that_are_not_there(ws: UserWorkspace) -> None:
    _environment("known", "numpy").register(ws)
    for given, says in (
        ({"name": "knwon"}, "Did you mean 'known'"), ({"name": "known", "version": "9"}, "it has 1"),
        ({"name": "known", "label": "prod"}, "label 'prod'"),
        ({"name": "known", "version": "1", "label": "a"}, "give one of them"),
        ({"name": "AzureML-AutoML-GPU"}, "curated environments"),
    ):  # fmt: skip
        with pytest.raises(UserErrorException, match=says):
            Environment.get(ws, **given)
    curated = Environment.get(ws, "AzureML-sklearn-0.24-ubuntu18.04-py37-cpu")
    assert "scikit-learn==0.24.*" in list(curated.python.conda_dependencies.pip_packages)
    with pytest.raises(UserErrorException, match="no version 'nope'"):
        Environment.label(ws, "known", "nope", ["x"])


def test_an_environment_is_built_without_a_run(ws: UserWorkspace, capsys: pytest.CaptureFixture[str]) -> None:
    mine = Environment("mine")
    mine.python.user_managed_dependencies = True
    mine.python.interpreter_path = sys.executable
    build = mine.build(ws)
    assert build.wait_for_completion(show_output=True).status == "Succeeded"
    assert "is ready (Python 3" in capsys.readouterr().out and "is ready" in build.get_log()
    mine.python.interpreter_path = os.path.realpath("/bin/sh")
    with pytest.raises(UserErrorException, match="sh"):
        mine.build(ws).wait_for_completion(show_output=False)
    with pytest.raises(NotOffered, match="image_build_compute"):
        mine.build(ws, image_build_compute="c")


def test_an_environment_in_use_cannot_be_removed(ws: UserWorkspace, shared: Workspace) -> None:
    run_id = shared.submit("import time; print('on', flush=True); time.sleep(600)")
    shared.wait_for_text(run_id, "on")
    key = shared.get(run_id).environment["key"]
    with pytest.raises(UserErrorException, match="in use by") as caught:
        shared.client.delete(f"/v1/environments/{key}")
    assert caught.value.error_code == "conflict"
    shared.client.post(f"/v1/runs/{run_id}/cancel")
    shared.wait(run_id)


def test_experiments_are_tagged_archived_and_deleted(ws: UserWorkspace, shared: Workspace) -> None:
    run_id = shared.submit("print(1)", experiment="old")
    shared.wait(run_id)
    old, new = Experiment(ws, "old"), Experiment(ws, "new")
    new.tag("team", "vision")
    new.set_tags({"mark": None})  # type: ignore[dict-item]
    new.remove_tags(["mark"])
    assert new.tags == {"team": "vision"} and old.tags == {} and Experiment(ws, "absent").tags == {}
    assert [e.name for e in Experiment.list(ws, tags={"team": "vision"})] == ["new"]
    old.archive()
    assert old.archived_time is not None and "old" not in ws.experiments
    assert [e.name for e in Experiment.list(ws, view_type=ViewType.ArchivedOnly)] == ["old"]
    old.reactivate()
    assert old.archived_time is None and "old" in ws.experiments
    old.archive()
    shared.wait(shared.submit("print(2)", experiment="old"))
    assert "old" in ws.experiments, "a new run brings it back"
    folder = Path(shared.dir, "runs", run_id)
    assert folder.is_dir()
    Experiment.delete(ws, old.id)
    assert "old" not in ws.experiments and not folder.exists()
    with pytest.raises(UserErrorException, match="No run"):
        ws.get_run(run_id)
    with pytest.raises(UserErrorException, match="no experiment 'old'"):
        Experiment.delete(ws, "old")
    with pytest.raises(NotOffered, match="new_name"):
        new.reactivate("other")


def test_an_experiment_with_a_going_run_stays(ws: UserWorkspace, shared: Workspace) -> None:
    run_id = shared.submit("import time; time.sleep(600)", experiment="busy")
    with pytest.raises(UserErrorException, match="have not ended"):
        Experiment.delete(ws, "busy")
    shared.client.post(f"/v1/runs/{run_id}/cancel")
    shared.wait(run_id)


def test_what_is_said_of_a_workspace(ws: UserWorkspace) -> None:
    details = ws.update(friendly_name="Ours", description="words", tags={"team": "vision"})
    assert (details["friendlyName"], details["description"], details["tags"]) == ("Ours", "words", {"team": "vision"})
    assert ws.update(tags={})["tags"] == {} and ws.update()["friendlyName"] == "Ours"
    assert ws.discovery_url.startswith("http://127.0.0.1:") and (ws.sku, ws.location) == ("basic", "local")
    with pytest.raises(NotOffered, match="v1_legacy_mode"):
        ws.update(v1_legacy_mode=True)


def test_a_workspace_is_put_aside_or_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = UserWorkspace.create("going", tags={"a": "1"}, friendly_name="Go")
    assert made.tags == {"a": "1"} and made.get_details()["friendlyName"] == "Go"
    keeper = Workspace("going")
    run_id = keeper.submit("import time; time.sleep(600)")
    with pytest.raises(UserErrorException, match="has not ended"):
        made.delete()
    keeper.client.post(f"/v1/runs/{run_id}/cancel")
    keeper.wait(run_id)
    keeper.client.close()
    made.delete()
    (aside,) = (home / "deleted").iterdir()
    assert (aside / "windlass.db").is_file() and str(aside) in capsys.readouterr().err
    with pytest.raises(UserErrorException, match="no workspace 'going'"):
        UserWorkspace.get("going")
    UserWorkspace.create("again").delete(delete_dependent_resources=True)
    assert list((home / "deleted").iterdir()) == [aside]


def test_own_sizes(ws: UserWorkspace) -> None:
    with pytest.raises(ComputeTargetException, match=r"Unknown vm_size 'BOX'.*define_size"):
        ComputeTarget.create(ws, "boxes", AmlCompute.provisioning_configuration("box"))
    AmlCompute.define_size(ws, "box", vcpus=16, memory_gb=64, gpus=2, gpu="RTX4090")
    target = ComputeTarget.create(ws, "boxes", AmlCompute.provisioning_configuration("box", max_nodes=2))
    assert target.vm_size == "BOX" and target._spec.gpus == 2
    sizes = {size["name"]: size for size in AmlCompute.supported_vmsizes(ws)}
    assert sizes["BOX"] == {
        "name": "BOX", "vCPUs": 16, "memoryGB": 64, "gpus": 2, "gpuName": "RTX4090", "maxResourceVolumeMB": None,
    }  # fmt: skip
    assert sizes["STANDARD_NC6"]["gpus"] == 1
    with pytest.raises(ComputeTargetException, match="cannot be changed: boxes has it"):
        AmlCompute.define_size(ws, "box", vcpus=1, memory_gb=1)
    for values, says in (
        ({"name": "STANDARD_X"}, "cannot name an own size"), ({"vcpus": 0}, "vcpus=0"),
        ({"memory_gb": -1}, "memory_gb=-1"), ({"gpus": "2"}, "gpus='2'"), ({"gpu": "T4"}, "give gpus as well"),
    ):  # fmt: skip
        with pytest.raises(ComputeTargetException, match=says):
            AmlCompute.define_size(ws, **{"name": "ok", "vcpus": 1, "memory_gb": 1, **values})
    target.delete()
    AmlCompute.define_size(ws, "box", vcpus=1, memory_gb=1)


def test_a_cluster_at_work(ws: UserWorkspace, shared: Workspace) -> None:
    target = ComputeTarget.create(ws, "cpu", AmlCompute.provisioning_configuration(max_nodes=2, tags={"a": "b"}))
    run_id = shared.submit("import time; print('on', flush=True); time.sleep(600)", target="cpu")
    shared.wait_for_text(run_id, "on")
    counts = target.get_status().serialize()["nodeStateCounts"]
    assert (counts["runningNodeCount"], counts["idleNodeCount"]) == (1, 1)
    assert [(n["nodeState"], n["runId"]) for n in target.list_nodes()] == [("running", run_id), ("idle", None)]
    with pytest.raises(ComputeTargetException, match=run_id) as caught:
        target.delete()
    assert caught.value.error_code == "conflict"
    restored = AmlCompute.deserialize(ws, target.serialize())
    assert restored.serialize() == target.serialize() and restored.tags == {"a": "b"}
    with pytest.raises(ComputeTargetException, match="object_dict"):
        AmlCompute.deserialize(ws, {"name": "x"})
    shared.client.post(f"/v1/runs/{run_id}/cancel")
    shared.wait(run_id)
    target.wait_for_completion(min_node_count=2)
    target.delete()
    target.wait_for_completion(is_delete_operation=True)
    with pytest.raises(ComputeTargetException, match="no compute target 'cpu'"):
        target.get()


@pytest.mark.faults
def test_a_build_is_asked_for_again_after_a_restart(workspace: Workspace) -> None:
    ws = UserWorkspace._at(workspace.dir)
    mine = Environment("mine")
    mine.python.user_managed_dependencies = True
    build = mine.build(ws)
    build._state["status"] = "Running"
    stop(workspace)
    assert build.wait_for_completion(show_output=False).status == "Succeeded"
