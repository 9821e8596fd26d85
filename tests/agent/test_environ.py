"""The environment variables of a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from windlass.specs.launch import LaunchSpec
from windlassd.agent import environ
from windlassd.blobs.run_folder import RunFolder

LAUNCH = LaunchSpec("run_1", 1, "local-0", 0, "train.py", (), "5" * 64, "/envs/a/bin/python", experiment="digits")


def variables(folder: RunFolder, launch: LaunchSpec = LAUNCH, rank: int = 0, **inherited: str) -> dict[str, str]:
    return environ.for_rank(launch, folder, "/home/ws", "/sdk", rank, inherited)


@pytest.mark.parametrize(
    "name",
    ["PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_CACHE_DIR",
     "WINDLASS_SERVER_IDLE_S", "AZUREML_SOMETHING", "OMPI_COMM_WORLD_RANK", "SLURM_JOB_ID", "TF_CONFIG", "MASTER_ADDR",
     "RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"],
)  # fmt: skip
def test_the_servers_own_life_is_dropped(folder: RunFolder, name: str) -> None:
    assert variables(folder, **{name: "of the server"}).get(name) != "of the server"


@pytest.mark.parametrize("name", ["HOME", "LANG", "SSL_CERT_FILE", "HTTPS_PROXY", "LD_LIBRARY_PATH", "AWS_PROFILE"])
def test_what_the_machine_needs_is_kept(folder: RunFolder, name: str) -> None:
    assert variables(folder, **{name: "kept"})[name] == "kept"


def test_the_environments_programs_come_first(folder: RunFolder) -> None:
    assert variables(folder, PATH="/usr/bin")["PATH"] == "/envs/a/bin:/usr/bin"
    assert variables(folder)["PATH"].startswith("/envs/a/bin:/")


def test_the_job_knows_its_run(folder: RunFolder, home: Path) -> None:
    found = variables(folder, rank=3)
    assert found["WINDLASS_HOME"] == str(home) and found["WINDLASS_WORKSPACE_DIR"] == "/home/ws"
    assert (found["AZUREML_RUN_ID"], found["WINDLASS_SPOOL_DIR"]) == ("run_1", folder.spool)
    assert (found["AZUREML_ARM_PROJECT_NAME"], found["AZUREML_ARM_WORKSPACE_NAME"]) == ("digits", "ws")
    assert (found["AZ_BATCHAI_TASK_INDEX"], found["PYTHONUNBUFFERED"], found["PYTHONPATH"]) == ("3", "1", "/sdk")


def test_the_users_variables_win_but_for_the_runs_own_names(folder: RunFolder) -> None:
    given = {"PYTHONUNBUFFERED": "0", "OMP_NUM_THREADS": "7", "PYTHONPATH": "/mine", "AZUREML_RUN_ID": "another"}
    launch = replace(LAUNCH, environment_variables=given, node_variables={"OMP_NUM_THREADS": "2", "CUDA": "0"})
    found = variables(folder, launch, OMP_NUM_THREADS="64")
    assert (found["PYTHONUNBUFFERED"], found["OMP_NUM_THREADS"], found["CUDA"]) == ("0", "7", "0")
    assert (found["PYTHONPATH"], found["AZUREML_RUN_ID"]) == ("/sdk:/mine", "run_1")


def test_the_engines_variables_win_over_the_machines(folder: RunFolder) -> None:
    launch = replace(LAUNCH, node_variables={"LANG": "C"})
    assert variables(folder, launch, LANG="de_DE.UTF-8")["LANG"] == "C"


@pytest.mark.parametrize(
    ("argument", "expanded"),
    [
        ("--rate", "--rate"),
        ("$X", "ex"), ("${X}", "ex"), ("a$X/b", "aex/b"), ("$X$X", "exex"), ("${X}Y", "exY"), ("$XY", "$XY"),
        ("$", "$"), ("100$", "100$"), ("$$", "$$"), ("$$X", "$ex"), ("${}", "${}"), ("${X", "${X"), ("$ X", "$ X"),
        ("$NO/${NO}", "$NO/${NO}"), ("", ""), ("$E", ""), ("ä$X", "äex"), ("$R", "$X"), ("{X}", "{X}"),
    ],
)  # fmt: skip
def test_variables_in_arguments_are_expanded_once(argument: str, expanded: str) -> None:
    assert environ.expand(argument, {"X": "ex", "E": "", "R": "$X"}) == expanded


def test_jobs_inherit_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEN", "yes")
    assert environ.own()["SEEN"] == "yes"


def test_one_process_of_torch_distributed_finds_itself(folder: RunFolder) -> None:
    found = variables(folder, replace(LAUNCH, communicator="Gloo"), MASTER_PORT="of the server")
    assert (found["RANK"], found["WORLD_SIZE"], found["MASTER_PORT"]) == ("0", "1", "0")
    assert "RANK" not in variables(folder, replace(LAUNCH, communicator="Mpi"))


def test_what_a_conda_prefix_sets_is_there_and_the_users_own_wins(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    launch = replace(LAUNCH, python=str(tmp_path / "bin" / "python"), environment_variables={"MODE": "the user's"})
    (tmp_path / "windlass.activation.json").write_text('{"CONDA_PREFIX": "/p", "DATA": "/p/share", "MODE": "quick"}')
    found = variables(folder, launch, CONDA_PREFIX="of the server")
    assert (found["CONDA_PREFIX"], found["DATA"], found["MODE"]) == ("/p", "/p/share", "the user's")


def test_a_conda_prefix_of_the_users_own_is_named(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    launch = replace(LAUNCH, python=str(tmp_path / "bin" / "python"))
    assert variables(folder, launch)["CONDA_PREFIX"] == str(tmp_path)
    assert "CONDA_PREFIX" not in variables(folder)


@pytest.mark.parametrize(
    ("handed", "processes", "communicator", "seen"),
    [
        ("0,1,2,3", 2, "IntelMpi", ["0,1", "2,3"]),
        ("4,5", 2, "OpenMpi", ["4", "5"]),
        ("6", 3, "None", ["6", "6", "6"]),
        ("0,1,2", 2, "None", ["0", "1"]),
        ("", 2, "None", ["", ""]),
        ("3,4", 1, "None", ["3,4"]),
        ("0,1", 2, "Nccl", ["0,1", "0,1"]),
    ],
)
def test_processes_of_a_node_share_its_gpus(
    folder: RunFolder, handed: str, processes: int, communicator: str, seen: list[str]
) -> None:
    launch = replace(
        LAUNCH, node_variables={"CUDA_VISIBLE_DEVICES": handed}, process_count=processes, communicator=communicator
    )
    assert [variables(folder, launch, rank)["CUDA_VISIBLE_DEVICES"] for rank in range(processes)] == seen
    asked = replace(launch, environment_variables={"CUDA_VISIBLE_DEVICES": "9"})
    assert variables(folder, asked)["CUDA_VISIBLE_DEVICES"] == "9"
