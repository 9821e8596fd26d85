"""The estimators: Estimator, PyTorch, TensorFlow, Chainer, SKLearn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdk.fake_server import FakeServer
from windlass import Environment, Estimator, Experiment
from windlass._distribution import Gloo, Mpi, ParameterServer
from windlass._environment_sections import ContainerRegistry
from windlass._estimator_base import MMLBaseEstimator, MMLBaseEstimatorRunConfig
from windlass._runconfig_parts import MpiConfiguration, TensorflowConfiguration
from windlass.dnn import Chainer, PyTorch, TensorFlow
from windlass.errors import NotOffered, TrainingException, UserErrorException
from windlass.sklearn_estimator import SKLearn


@pytest.mark.parametrize("kind", [PyTorch, TensorFlow, Chainer, SKLearn])
def test_a_framework_comes_along(kind: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kind(str(source), entry_script="train.py", pip_packages=["pillow==5.4.1"])
    spec = made._job().environment
    assert (spec.framework, spec.framework_version, spec.pip_packages) == (kind.__name__, None, ("pillow==5.4.1",))
    monkeypatch.setenv("WINDLASS_FRAMEWORK_DEFAULTS", "v1")
    assert made._job().environment.framework_version == {
        "PyTorch": "1.4", "TensorFlow": "1.13", "Chainer": "5.1.0", "SKLearn": "0.20.3"}[kind.__name__]  # fmt: skip
    exact = kind(str(source), entry_script="train.py", framework_version="1.13")
    assert exact._job().environment.framework_version == exact.framework_version == "1.13"
    assert len(kind.get_supported_versions()) > 5


def test_ones_own_environment_gets_no_framework(source: Path) -> None:
    own = Environment("own")
    assert PyTorch(str(source), entry_script="t.py", environment_definition=own)._job().environment.framework is None
    assert PyTorch(str(source), entry_script="t.py", user_managed=True)._job().environment.user_managed
    with pytest.raises(TrainingException, match=r"framework_version='1\.4' together with user_managed"):
        PyTorch(str(source), entry_script="t.py", user_managed=True, framework_version="1.4")


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("custom_docker_base_image", "custom_docker_image", "microsoft/mmlspark:0.12"),
        ("conda_dependencies_file_path", "conda_dependencies_file", "{source}/env.yml"),
        ("pip_requirements_file_path", "pip_requirements_file", "{source}/r.txt"),
    ],
)
def test_old_names_warn_and_work(source: Path, old: str, new: str, value: str) -> None:
    (source / "env.yml").write_text("dependencies:\n- scipy\n")
    (source / "r.txt").write_text("scipy\n")
    value = value.format(source=source)
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated; use {new}") as caught:
        made = Estimator(str(source), entry_script="train.py", **{old: value})  # type: ignore[arg-type]
    assert caught[0].filename == __file__
    assert made._job() == Estimator(str(source), entry_script="train.py", **{new: value})._job()  # type: ignore[arg-type]
    with pytest.raises(TrainingException, match="not both"):
        Estimator(str(source), **{old: value, new: value})  # type: ignore[arg-type]


def test_files_and_lists_add_up(source: Path) -> None:
    (source / "env.yml").write_text("dependencies:\n- python=3.8\n- scipy\n- pip:\n  - numpy==1.20\n")
    (source / "r.txt").write_text("six\n")
    spec = Estimator(
        str(source), entry_script="train.py", conda_dependencies_file=str(source / "env.yml"),
        pip_requirements_file=str(source / "r.txt"), pip_packages=["numpy==1.21"], conda_packages=["pandas"],
    )._job().environment  # fmt: skip
    assert (spec.python_version, spec.conda_packages) == ("3.8", ("scipy", "pandas"))
    assert spec.pip_packages == ("six", "numpy==1.21")


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"custom_docker_image": "two words"}, UserErrorException, "custom_docker_image='two words' is no name"),
        ({"custom_docker_image": "a/b", "use_docker": False}, TrainingException, "use_docker=False and custom_"),
        ({"image_registry_details": "registry"}, TrainingException, "image_registry_details=.*needs custom"),
        (
            {"environment_definition": Environment("e"), "custom_docker_image": "a/b"},
            TrainingException,
            "custom_docker_image: set the image in environment_definition.docker",
        ),
        ({"shm_size": "2 pears"}, UserErrorException, "shm_size='2 pears' is no size"),
        ({"compute_target": "c", "vm_size": "STANDARD_NC6"}, TrainingException, "nodes of its own size"),
        ({"vm_priority": "lowpriority"}, TrainingException, "needs vm_size"),
        (
            {"environment_definition": Environment("e"), "pip_packages": ["a"]},
            TrainingException,
            "together with pip_pack",
        ),
        ({"environment_definition": "e"}, UserErrorException, "no Environment"),
        ({"distributed_training": Gloo()}, TrainingException, "'gloo': Estimator knows mpi"),
        ({"distributed_training": 3}, TrainingException, "distributed_training=3 must be one of"),
        ({"node_count": 2, "distributed_training": MpiConfiguration(node_count=3)}, TrainingException, "contradict"),
        ({"inputs": "data"}, UserErrorException, "inputs must be a list"),
    ],
)
def test_what_does_not_go_together_is_refused(source: Path, given: Any, kind: Any, says: str) -> None:
    if "image_registry_details" in given:
        given = {"image_registry_details": ContainerRegistry()}
        Estimator(str(source), entry_script="train.py", **given)
        given["image_registry_details"].address = "registry.example"
    with pytest.raises(kind, match=says):
        Estimator(str(source), entry_script="train.py", **given)


def test_counts_of_the_constructor_win(source: Path) -> None:
    def job(**given: Any) -> Any:
        return Estimator(str(source), entry_script="train.py", **given)._job()

    assert job(distributed_training=MpiConfiguration(4)).process_count_per_node == 4
    assert job(node_count=3, distributed_training=Mpi()).node_count == 3
    assert job(distributed_training=Mpi()).communicator == "Mpi"
    with pytest.warns(DeprecationWarning, match="distributed_backend is deprecated"):
        assert job(distributed_backend="mpi").communicator == "Mpi"


def test_parameter_servers_come_later(source: Path) -> None:
    with pytest.warns(DeprecationWarning, match="worker_count is deprecated"):
        made = TensorFlow(str(source), entry_script="t.py", worker_count=2, distributed_training=ParameterServer())
    with pytest.raises(NotOffered, match="parameter servers"):
        made._job()
    with pytest.raises(TrainingException, match="worker_count=2 and 3"), pytest.warns(DeprecationWarning):
        TensorFlow(str(source), worker_count=2, distributed_training=TensorflowConfiguration(3))


def test_shm_size_says_that_it_holds_in_containers(source: Path) -> None:
    with pytest.warns(UserWarning, match="shm_size='4g' holds in containers"):
        Estimator(str(source), entry_script="train.py", shm_size="4g")


def test_what_is_changed_on_the_run_config_counts(source: Path) -> None:
    made = Estimator(str(source), entry_script="train.py", script_params={"--a": 1})
    made.run_config.environment_variables["B"] = "2"
    made.conda_dependencies.add_pip_package("six")
    job = made._job()
    assert job.environment_variables == {"B": "2"} and job.environment.pip_packages == ("six",)
    assert made._job(script_params={"--a": 2, "--b": ""}).arguments == ("--a", "2", "--b")
    assert made._job().arguments == ("--a", "1")
    with pytest.raises(UserErrorException, match=r"compute_target=\.\.\..*script_params, inputs"):
        made._job(compute_target="x")


def test_the_base_takes_a_run_configuration(source: Path) -> None:
    config = MMLBaseEstimatorRunConfig(
        "cpucluster", entry_script="train.py", script_params={"--a": ""}, pip_packages=["six"]
    )
    job = MMLBaseEstimator(str(source), compute_target=None, estimator_config=config)._job()
    assert (job.script, job.arguments, job.target) == ("train.py", ("--a",), "cpucluster")
    assert job.environment.pip_packages == ("six",)


def test_a_size_without_a_target_makes_a_cluster(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    made = Estimator(str(source), entry_script="train.py", vm_size="STANDARD_NC6")
    first, second = experiment.submit(made), experiment.submit(made)
    assert first.id != second.id
    assert [request["spec"]["target"] for request in fake.requests] == ["run-standard-nc6"] * 2
    assert fake.computes["run-standard-nc6"]["spec"]["vm_size"] == "STANDARD_NC6"


def test_what_was_asked_shows_in_the_details(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    run = experiment.submit(PyTorch(str(source), entry_script="train.py", distributed_training=Mpi()))
    shown = run.get_details()["runDefinition"]
    assert (shown["framework"], shown["communicator"], shown["mpi"]) == (
        "PyTorch", "Mpi", {"processCountPerNode": 1, "nodeCount": 1})  # fmt: skip


def test_a_file_that_hides_the_framework_is_refused(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    (source / "sklearn.py").write_text("")
    with pytest.raises(
        UserErrorException, match=r"sklearn\.py would be imported instead of the package 'scikit-learn'"
    ):
        experiment.submit(SKLearn(str(source), entry_script="train.py"))
    assert fake.requests == []
