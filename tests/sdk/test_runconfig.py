from __future__ import annotations

from pathlib import Path

import pytest

from windlass import CondaDependencies, Environment, RunConfiguration, ScriptRunConfig
from windlass._runconfig_parts import (
    DataReferenceConfiguration,
    DockerConfiguration,
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from windlass.errors import NotOffered, RunConfigurationException, UserErrorException


def changed() -> RunConfiguration:
    config = RunConfiguration(
        script="train.py", arguments=["--c", 0.5, "text"], framework="PyTorch",
        conda_dependencies=CondaDependencies.create(pip_packages=["numpy"], python_version="3.9"),
    )  # fmt: skip
    config.target = "cpucluster"
    config.environment.name = "mine"
    config.environment_variables = {"A": "1"}
    config.max_run_duration_seconds = 60
    config.amlcompute.vm_size = "STANDARD_D2_V2"
    config.data_references["d"] = DataReferenceConfiguration("store", "download", "p", "q")
    return config


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    config = changed()
    config.save(str(tmp_path), "first")
    assert (tmp_path / ".azureml" / "first.runconfig").is_file()
    loaded = RunConfiguration.load(str(tmp_path), "first")
    assert loaded._to_dictionary() == config._to_dictionary()
    assert loaded.target == "cpucluster" and loaded.environment.python.conda_dependencies.get_python_version() == "3.9"
    config.save(str(tmp_path / "x.yml"))
    assert RunConfiguration.load(str(tmp_path / "x.yml")).environment_variables == {"A": "1"}
    with pytest.raises(RunConfigurationException, match=r"'frist'.*'first'"):
        RunConfiguration.load(str(tmp_path), "frist")
    RunConfiguration.delete(str(tmp_path), "first")
    with pytest.raises(RunConfigurationException, match="There are: none"):
        RunConfiguration.delete(str(tmp_path), "first")


def test_a_file_of_v1_is_read_and_what_is_unknown_is_named(tmp_path: Path) -> None:
    (tmp_path / "old.runconfig").write_text(
        "script: train.py\ntarget: local\nframework: Python\nnodeCount: 1\nuseAbsolutePath: false\n"
        "environment:\n  name: x\n  python:\n    userManagedDependencies: false\n    condaDependencies:\n"
        "      dependencies:\n      - python=3.8\n      - pip:\n        - azureml-defaults\n"
        "containerInstance:\n  region: null\nnewThing: 3\nmpi:\n  processCountPerNode: 1\n"
    )
    with pytest.warns(UserWarning, match="'newThing' of RunConfiguration is not read"):
        config = RunConfiguration.load(str(tmp_path), "old")
    assert config.environment.python.conda_dependencies.get_python_version() == "3.8"


def test_a_misspelt_attribute_is_an_error() -> None:
    with pytest.raises(UserErrorException, match=r"no attribute 'node_cuont'.*'node_count'"):
        RunConfiguration().node_cuont = 2


def test_script_run_config_takes_all_of_a_run_configuration(tmp_path: Path) -> None:
    job = ScriptRunConfig(str(tmp_path), run_config=changed())._job()
    assert (job.script, job.arguments, job.target) == ("train.py", ("--c", "0.5", "text"), "cpucluster")
    assert job.environment.pip_packages == ("numpy",) and job.environment_variables == {"A": "1"}
    assert (job.framework, job.max_run_duration_s) == ("PyTorch", 60)
    (data,) = job.data
    assert (data.name, data.mode, data.places[0].datastore, data.places[0].path) == ("d", "download", "store", "p")
    config = changed()
    again = ScriptRunConfig(str(tmp_path), "other.py", ["-x"], config, compute_target="local")._job()
    assert (again.script, again.arguments, again.target) == ("other.py", ("-x",), "local")
    assert config.target == "cpucluster"


def test_priority_is_a_whole_number(tmp_path: Path) -> None:
    config = changed()
    assert ScriptRunConfig(str(tmp_path), run_config=config)._job().priority == 0
    config.priority = 3
    assert ScriptRunConfig(str(tmp_path), run_config=config)._job().priority == 3
    for wrong in (True, "high", 1.5):
        config.priority = wrong  # type: ignore[assignment]
        with pytest.raises(UserErrorException, match=f"priority={wrong!r} must be a whole number"):
            ScriptRunConfig(str(tmp_path), run_config=config)._job()


def test_a_command_instead_of_a_script(tmp_path: Path) -> None:
    job = ScriptRunConfig(str(tmp_path), command=["python", "train.py", "--n", 1])._job()
    assert (job.command, job.shell, job.script) == (("python", "train.py", "--n", "1"), False, "")
    job = ScriptRunConfig(str(tmp_path), command="python train.py && ls")._job()
    assert (job.command, job.shell) == (("python train.py && ls",), True)
    with pytest.raises(UserErrorException, match="not both"):
        ScriptRunConfig(str(tmp_path), "train.py", command=["ls"])


def test_resume_from_becomes_an_argument(tmp_path: Path) -> None:
    job = ScriptRunConfig(str(tmp_path), "t.py", "--a 'b c'", resume_from="/checkpoints")._job()
    assert job.arguments == ("--a", "b c", "--resume-from", "/checkpoints")
    with pytest.raises(UserErrorException, match="resume_from=7"):
        ScriptRunConfig(str(tmp_path), "t.py", resume_from=7)._job()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: setattr(c.history, "output_collection", False), "output_collection=False"),
        (lambda c: c.history.directories_to_watch.append("results"), "results"),
        (
            lambda c: setattr(c, "docker", DockerConfiguration(arguments=["-it"])),
            r"docker\.arguments: docker's option '-it'.*Taken are.*--memory",
        ),
        (lambda c: setattr(c.environment.docker.platform, "architecture", "arm64"), "platform"),
        (lambda c: setattr(c, "communicator", "ParameterServer"), "parameter servers"),
        (lambda c: setattr(c, "auto_prepare_environment", False), "auto_prepare_environment"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused(change: object, says: str, tmp_path: Path) -> None:
    config = changed()
    with pytest.raises(NotOffered, match=says):
        change(config)  # type: ignore[operator]
        ScriptRunConfig(str(tmp_path), run_config=config)._job()


def test_distributed_configurations_set_the_counts(tmp_path: Path) -> None:
    def job(wanted: object) -> object:
        return ScriptRunConfig(str(tmp_path), "t.py", distributed_job_config=wanted)._job()

    mpi = job(MpiConfiguration(process_count_per_node=4, node_count=2))
    assert (mpi.node_count, mpi.process_count_per_node, mpi.communicator) == (2, 4, "Mpi")  # type: ignore[attr-defined]
    torch = job(PyTorchConfiguration("Gloo", process_count=4, node_count=2))
    assert (torch.node_count, torch.process_count_per_node) == (2, 2)  # type: ignore[attr-defined]
    with pytest.raises(NotOffered, match="parameter servers"):
        job(TensorflowConfiguration())
    with pytest.raises(UserErrorException, match="distributed_job_config=3"):
        job(3)


def test_amlcompute_needs_a_size(tmp_path: Path) -> None:
    config = RunConfiguration("t.py")
    config.target = "amlcompute"
    with pytest.raises(UserErrorException, match=r"amlcompute\.vm_size"):
        ScriptRunConfig(str(tmp_path), run_config=config)._job()
    config.amlcompute.vm_size = "STANDARD_NC6"
    assert ScriptRunConfig(str(tmp_path), run_config=config)._job().vm_size == "STANDARD_NC6"


def test_an_environment_goes_to_a_folder_and_back(tmp_path: Path) -> None:
    environment = Environment("mine")
    environment.environment_variables = {"A": "1"}
    environment.docker.enabled = True
    environment.docker.base_image_registry.password = "never written"
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["numpy"])
    environment.save_to_directory(str(tmp_path / "env"))
    assert "never written" not in (tmp_path / "env" / "azureml_environment.json").read_text()
    loaded = Environment.load_from_directory(str(tmp_path / "env"))
    assert (loaded.name, loaded.environment_variables, loaded.docker.enabled) == ("mine", {"A": "1"}, True)
    assert list(loaded.python.conda_dependencies.pip_packages) == ["numpy"]
    with pytest.raises(UserErrorException, match="overwrite=True"):
        environment.save_to_directory(str(tmp_path / "env"))


def test_environments_from_files(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("numpy # x\n")
    made = Environment.from_pip_requirements("r", str(tmp_path / "r.txt"), pip_version="20.1")
    assert list(made.python.conda_dependencies.pip_packages) == ["numpy", "pip==20.1"]
    (tmp_path / "c.yml").write_text("dependencies:\n- scipy\n")
    made = Environment.from_conda_specification("c", str(tmp_path / "c.yml"))
    assert list(made.python.conda_dependencies.conda_packages) == ["scipy"]
    made.python.conda_dependencies_file = str(tmp_path / "c.yml")
    assert made.python.conda_dependencies_file == str(tmp_path / "c.yml")
