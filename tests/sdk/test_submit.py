"""``Experiment.submit``: what reaches the server, and what is refused before anything does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.fake_server import FakeServer, _compute
from windlass import CondaDependencies, Environment, Estimator, Experiment, ScriptRunConfig
from windlass.errors import (
    ComputeTargetException,
    ExperimentExecutionException,
    NotOffered,
    UserErrorException,
)
from windlass.runconfig import MpiConfiguration


def test_an_estimator_reaches_the_server_whole(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    run = experiment.submit(
        Estimator(str(source), entry_script="train.py", script_params={"--c": 0.5, "--flag": "", "--path": Path("/d")},
                  pip_packages=["scikit-learn"], environment_variables={"A": "1"}, use_gpu=True),
        tags={"kind": "baseline", "alone": None},
    )  # fmt: skip
    request = fake.requests[0]
    spec = request["spec"]
    assert run.id in fake.runs and len(request["request_id"]) == 36
    assert spec["arguments"] == ["--c", "0.5", "--flag", "--path", "/d"]
    assert spec["environment"]["pip_packages"] == ["scikit-learn"]
    assert (spec["script"], spec["target"], spec["node_count"]) == ("train.py", "local", 1)
    assert spec["environment_variables"] == {"A": "1"} and spec["tags"] == {"kind": "baseline", "alone": ""}
    assert [f["path"] for f in fake.snapshots[spec["snapshot_id"]]] == ["train.py"]
    assert list(fake.blobs.values()) == [b"print('hello')\n"]
    assert "git" in spec and spec["source_directory"] == str(source)


def test_a_second_submit_sends_no_content_again(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    estimator = Estimator(str(source), entry_script="train.py")
    experiment.submit(estimator)
    (source / "new.py").write_text("x = 1\n")
    posts = len(fake.blob_posts)
    experiment.submit(estimator)
    assert fake.blob_posts[posts:] == [40 + len("x = 1\n")]
    experiment.submit(estimator)
    assert len(fake.blob_posts) == posts + 1


def test_script_run_config_with_environment(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    environment = Environment("mine")
    environment.python.conda_dependencies = CondaDependencies.create(
        pip_packages=["numpy"], conda_packages=["pandas", "python=3.9"], python_version="3.8"
    )
    environment.environment_variables = {"B": "2"}
    config = ScriptRunConfig(str(source), "train.py", arguments="--name 'two words'", environment=environment)
    experiment.submit(config)
    spec = fake.requests[0]["spec"]
    assert spec["arguments"] == ["--name", "two words"]
    assert spec["environment"]["python_version"] == "3.8" and spec["environment"]["name"] == "mine"
    assert spec["environment"]["conda_packages"] == ["pandas"] and spec["environment_variables"] == {"B": "2"}


def test_user_managed_takes_an_interpreter_as_it_is(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    environment = Environment("own")
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = "/bin/sh"
    experiment.submit(ScriptRunConfig(str(source), "train.py", environment=environment))
    assert fake.requests[0]["spec"]["environment"]["interpreter"] == "/bin/sh"
    environment.python.interpreter_path = "/no/python"
    with pytest.raises(UserErrorException, match="interpreter_path='/no/python'"):
        experiment.submit(ScriptRunConfig(str(source), "train.py", environment=environment))


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"source_directory": "{root}/sorce"}, UserErrorException, "source_directory=.*does not exist.*'source'"),
        ({"source_directory": "{root}/source/train.py"}, UserErrorException, "is a file; give the folder"),
        ({"source_directory": None}, UserErrorException, "source_directory=None"),
        ({"entry_script": "trian.py"}, UserErrorException, "entry_script='trian.py'.*'train.py'"),
        ({"entry_script": None}, UserErrorException, "entry_script=None"),
        ({"entry_script": "../outside.py"}, UserErrorException, "not inside source_directory"),
        ({"entry_script": "{root}/outside.py"}, UserErrorException, "not inside source_directory"),
        ({"entry_script": "link.py"}, UserErrorException, "link that leads out.*Copy the file"),
        ({"compute_target": "gpuclustr"}, ComputeTargetException, "gpuclustr.*'gpucluster'"),
        ({"compute_target": 7}, UserErrorException, "compute_target=7"),
        ({"node_count": 0}, UserErrorException, "node_count=0"),
        ({"node_count": True}, UserErrorException, "node_count=True"),
        ({"process_count_per_node": 1.5}, UserErrorException, "process_count_per_node=1.5"),
        ({"node_count": 5, "compute_target": "gpucluster"}, UserErrorException, "node_count=5.*max_nodes=4"),
        (
            {"node_count": 2, "compute_target": "gpucluster", "distributed_training": MpiConfiguration()}, NotOffered,
            "node_count=2, communicator='Mpi'.*AZ_BATCHAI_TASK_INDEX",
        ),
        ({"process_count_per_node": 2}, NotOffered, "process_count_per_node=2"),
        ({"script_params": ["--a"]}, UserErrorException, "script_params must be a dictionary"),
        ({"script_params": {"--a": None}}, UserErrorException, "--a.*is None"),
        ({"script_params": {"--a": object()}}, NotOffered, "--a.*of type object"),
        ({"max_run_duration_seconds": -1}, UserErrorException, "max_run_duration_seconds=-1"),
        ({"environment_variables": {"A=B": "1"}}, UserErrorException, "A=B"),
        ({"pip_packages": ["shadow"]}, UserErrorException, "shadow.py would be imported instead"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*is left out of the snapshot")
def test_nothing_is_queued_for_what_cannot_work(
    changes: dict[str, object], kind: type[Exception], says: str, fake: FakeServer, experiment: Experiment,
    source: Path, tmp_path: Path,
) -> None:  # fmt: skip
    fake.computes["gpucluster"] = _compute({"name": "gpucluster", "max_nodes": 4})
    (tmp_path / "outside.py").write_text("")
    (source / "link.py").symlink_to(tmp_path / "outside.py")
    (source / "shadow.py").write_text("")
    values: dict[str, object] = {"source_directory": str(source), "entry_script": "train.py"}
    values.update({k: v.format(root=tmp_path) if isinstance(v, str) else v for k, v in changes.items()})
    with pytest.raises(kind, match=says):
        experiment.submit(Estimator(**values))
    assert fake.requests == []


def test_an_ignored_entry_script_is_named(experiment: Experiment, source: Path) -> None:
    (source / ".amlignore").write_text("*.py\n")
    with pytest.raises(UserErrorException, match=r"train\.py is left out of the snapshot by the line '\*\.py'"):
        experiment.submit(Estimator(str(source), entry_script="train.py"))


def test_what_is_not_offered_yet_says_so(experiment: Experiment, source: Path) -> None:
    with pytest.raises(ExperimentExecutionException, match="takes an Estimator"):
        experiment.submit("train.py")
    with pytest.raises(UserErrorException, match=r"submit\(_parent=...\)"):
        experiment.submit(Estimator(str(source), entry_script="train.py"), _parent=1)
    with pytest.raises(NotOffered, match="_parent"):
        experiment.submit(ScriptRunConfig(str(source), "train.py"), _parent=1)


@pytest.mark.parametrize(("size", "asked_first"), [(10, False), (5 << 20, True)])
def test_a_wrong_target_is_found_before_much_is_sent(
    size: int, asked_first: bool, fake: FakeServer, experiment: Experiment, source: Path
) -> None:
    (source / "data.bin").write_bytes(b"1" * size)
    config = ScriptRunConfig(str(source), "train.py", compute_target="lokal")
    with pytest.raises(ComputeTargetException, match=r"'lokal'.*Did you mean 'local'"):
        experiment.submit(config)
    assert (fake.blobs == {}) == asked_first and (("GET", "/v1/computes") in fake.calls) == asked_first
    assert fake.runs == {}


def test_priority_of_one_submit(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    estimator = Estimator(str(source), entry_script="train.py", use_gpu=True)
    experiment.submit(estimator)
    experiment.submit(estimator, priority=-3)
    assert [(body["spec"]["priority"], body["spec"]["use_gpu"]) for body in fake.requests] == [(0, True), (-3, True)]
    with pytest.raises(UserErrorException, match="priority='high' must be a whole number"):
        experiment.submit(estimator, priority="high")


def test_retries_of_one_submit(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    config = ScriptRunConfig(str(source), "train.py")
    experiment.submit(config)
    experiment.submit(config, max_retries=2)
    assert [body["spec"]["max_retries"] for body in fake.requests] == [0, 2]
    for wrong in (-1, True, "2", 1001):
        with pytest.raises(UserErrorException, match=r"max_retries=.* must be a whole number from 0 to 1000"):
            experiment.submit(config, max_retries=wrong)
