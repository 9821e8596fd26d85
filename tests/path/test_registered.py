"""Registered environments, experiments, workspace facts and compute targets, against a real server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from path.conftest import stop
from windlass import AmlCompute, ComputeTarget, CondaDependencies, Environment, Experiment, ScriptRunConfig
from windlass import Workspace as UserWorkspace
from windlass._environment_sections import DockerBuildContext
from windlass.environment import environment_spec
from windlass.errors import ComputeTargetException, NotOffered, UserErrorException
from windlass.experiment import ViewType
from windlassd.testing.harness import Workspace
from windlassd.testing.packages import wheel, wheel_name


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


def test_a_private_wheel_is_kept_and_installed(
    ws: UserWorkspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / wheel_name("mine")
    file.write_bytes(wheel("mine", files={"mine.py": "print('from the wheel')\n"}))
    address = Environment.add_private_pip_wheel(ws, str(file))
    assert address.startswith("file:///") and address.endswith(f"/{file.name}")
    with pytest.raises(UserErrorException, match=r"has a wheel mine-1\.0.*exist_ok=True"):
        Environment.add_private_pip_wheel(ws, str(file))
    assert Environment.add_private_pip_wheel(ws, str(file), exist_ok=True) == address
    file.write_bytes(wheel("mine", files={"mine.py": "print('another')\n"}))
    assert Environment.add_private_pip_wheel(ws, str(file), exist_ok=True) != address, "what was locked stays the same"
    (tmp_path / "train.py").write_text("import mine\n")
    made = Environment("private")
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=[address])
    made.python.conda_dependencies.set_pip_option("--no-index")
    assert not made.get_image_details(ws).image_exist
    run = Experiment(ws, "private").submit(ScriptRunConfig(str(tmp_path), "train.py", environment=made))
    run.wait_for_completion(show_output=True)
    assert "from the wheel" in capsys.readouterr().out
    details = made.get_image_details(ws)
    assert details.image_exist and details.image is None
    assert str(details.interpreter_path).startswith(str(details.environment_path))


@pytest.mark.parametrize(("name", "content", "says"), [
    ("mine-1.0-py3-none-any.whl", b"no zip", "is no wheel"), ("mine.whl", b"", "not named like a wheel"),
    ("mine-1.0.tar.gz", b"", "not named like a wheel"), ("none-1.0-py3-none-any.whl", None, "is no file"),
])  # fmt: skip
def test_what_is_no_wheel_is_not_kept(
    ws: UserWorkspace, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserErrorException, match=says):
        Environment.add_private_pip_wheel(ws, str(tmp_path / name))


def test_curated_names_are_listed_until_one_is_registered(ws: UserWorkspace) -> None:
    listed = Environment.list(ws)
    assert {"AzureML-Minimal", "AzureML-sklearn-0.24-ubuntu18.04-py37-cpu"} <= set(listed)
    with pytest.warns(UserWarning, match="version='10': there is one AzureML-Minimal here"):
        Environment.get(ws, "AzureML-Minimal", version="10")
    own = Environment.get(ws, "AzureML-Minimal").clone("AzureML-Minimal")
    own.environment_variables = {"A": "1"}
    own.register(ws)
    assert Environment.list(ws)["AzureML-Minimal"].environment_variables == {"A": "1"}
    assert Environment.get(ws, "AzureML-Minimal").version == "1"


def test_an_image_is_registered_without_its_password(ws: UserWorkspace) -> None:
    made = Environment.from_dockerfile("boxed", "FROM registry.example/base:1\nRUN true\n")
    made.docker.arguments = ["--memory=2g"]
    found = made.register(ws)
    assert found.docker.base_dockerfile == "FROM registry.example/base:1\nRUN true\n"
    assert environment_spec(found) == environment_spec(made) == environment_spec(Environment.get(ws, "boxed"))
    found.docker.base_dockerfile = "FROM registry.example/base:2\n"
    assert found.register(ws).version == "2"


def test_the_files_beside_a_dockerfile_are_kept_before_any_run_needs_them(
    ws: UserWorkspace, shared: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM registry.example/base:1\n")
    context = DockerBuildContext.from_local_directory(ws, str(tmp_path))
    kept = shared.client.get(f"/v1/snapshots/{context.location}")
    assert [file["path"] for file in kept["files"]] == ["Dockerfile"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (3, "`spec` is 3; it must be an object"),
        ({"pip_packages": "six"}, "`spec.pip_packages` is 'six'; it must be a list of texts"),
        ({"conda_packages": [1]}, r"`spec.conda_packages\[0\]` is 1; it must be a text"),
        ({"channels": {}, "name": "x"}, "`spec.channels`"),
        ({"container": 5}, "`spec.container` is 5; it must be an object"),
        ({"container": {"image": ["a"]}}, "`spec.container.image`"),
        ({"python_version": 3.9}, "`spec.python_version` is 3.9; it must be a text"),
        ({"user_managed": "no"}, "`spec.user_managed` is 'no'; it must be true or false"),
    ],
)
@pytest.mark.parametrize("address", ["environment-builds", "environments/find"])
def test_a_build_of_nonsense_is_refused(shared: Workspace, spec: object, said: str, address: str) -> None:
    with pytest.raises(UserErrorException, match=said):
        shared.client.post(f"/v1/{address}", {"spec": spec})


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"environment": {"container": 5}}, "`spec.environment.container` is 5"),
        ({"container": "big"}, "`spec.container` is 'big'; it must be an object"),
        ({"container": {"shm_bytes": "4g"}}, "`spec.container.shm_bytes` is '4g'; it must be a whole number"),
        ({"container": {"volumes": [{}]}}, r"`spec.container.volumes\[0\]`"),
        ({"data": [7]}, r"`spec.data\[0\]` is 7"),
        ({"data": [{"name": "d", "places": ["x"]}]}, r"`spec.data\[0\].places\[0\]`"),
        ({"tags": {"a": ["b"]}}, r"`spec.tags\['a'\]`"),
        ({"arguments": [1]}, r"`spec.arguments\[0\]`"),
        ({"node_count": 1.5}, "`spec.node_count` is 1.5"),
    ],
)
@pytest.mark.parametrize("address", ["runs", "interactive"])
def test_a_run_of_nonsense_is_refused(shared: Workspace, part: dict[str, object], said: str, address: str) -> None:
    spec = {"experiment": "junk", "script": "train.py", "snapshot_id": "0" * 64, **part}
    with pytest.raises(UserErrorException, match=said):
        shared.client.post(f"/v1/{address}", {"spec": spec, "request_id": "r"})


@pytest.mark.parametrize("asked", [{}, {"older_than_s": "1d"}, {"max_bytes": -1}, {"older_than_s": True}])
def test_a_prune_that_says_nothing_sensible_removes_nothing(shared: Workspace, asked: dict[str, object]) -> None:
    with pytest.raises(UserErrorException, match=r"older_than_s|max_bytes"):
        shared.client.post("/v1/environments/prune", asked)
