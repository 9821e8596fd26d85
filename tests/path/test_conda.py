"""A run whose conda packages come from a channel in a folder, and one whose packages do not exist."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of
from windlass import Environment
from windlass.environment import environment_spec
from windlass.specs._codec import to_wire
from windlass.specs.status import RunStatus
from windlassd.testing.conda_channel import PLACEHOLDER, CondaChannel, File
from windlassd.testing.harness import Workspace

BUILD_LOG = "azureml-logs/20_image_build_log.txt"
SCRIPT = """
import os, subprocess, sys, team_tool
from azureml.core import Run
run = Run.get_context()
run.tag("native", subprocess.run(["native-tool"], capture_output=True, text=True, check=True).stdout.strip())
run.tag("prefix", str(os.environ["CONDA_PREFIX"] == sys.prefix))
run.tag("data", os.path.relpath(os.environ["NATIVE_DATA"], sys.prefix))
run.tag("mode", os.environ["NATIVE_MODE"])
"""


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_", "CONDA")):
                patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("HOME", str(folder / "nobody"))
        yield folder
        end_processes_of(folder)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> CondaChannel:
    made = CondaChannel(tmp_path_factory.mktemp("channel"))
    made.add_python()
    made.add(
        "native-tool",
        files={
            "bin/native-tool": File.text(f"#!/bin/sh\ncat {PLACEHOLDER}/share/native/data\n", executable=True),
            "share/native/data": File.text("data of the prefix"),
            "etc/conda/activate.d/native.sh": File.text('export NATIVE_DATA="$CONDA_PREFIX/share/native"\n'),
            "etc/conda/env_vars.d/native.json": File.text('{"NATIVE_MODE": "quick"}'),
        },
    )
    made.add_python_package("team-tool", "0.3", depends=("python", "azureml-core >=1.10"))
    made.publish()
    return made


def test_a_run_gets_its_conda_packages_and_what_they_set(shared: Workspace, channel: CondaChannel) -> None:
    environment = {"conda_packages": ["native-tool=1.0", "team-tool"], "channels": [channel.address]}
    run_id = shared.submit(SCRIPT, environment=environment)
    run = shared.wait(run_id)
    log = shared.read(run_id, BUILD_LOG).decode()
    assert run.status is RunStatus.COMPLETED, log + shared.log(run_id)
    assert run.tags == {"native": "data of the prefix", "prefix": "True", "data": "share/native", "mode": "quick"}
    note = "From the conda channels: native-tool=1.0, team-tool."
    assert note in log and note in json.dumps(shared.client.get(f"/v1/runs/{run_id}"))
    again = shared.wait(shared.submit(SCRIPT, environment=environment))
    assert again.status is RunStatus.COMPLETED
    assert note in json.dumps(shared.client.get(f"/v1/runs/{again.id}"))


def test_a_package_that_does_not_exist_fails_the_run_with_its_name_and_a_near_one(
    shared: Workspace, channel: CondaChannel
) -> None:
    environment = {"conda_packages": ["native-tol"], "channels": [channel.address]}
    run = shared.wait(shared.submit("pass", environment=environment))
    assert run.status is RunStatus.FAILED and run.reason
    assert run.reason.code == "environment_failed"
    assert "'native-tol'" in run.reason.message and "Did you mean 'native-tool'?" in run.reason.message


def test_an_environment_that_is_there_can_be_taken_over(shared: Workspace, channel: CondaChannel) -> None:
    environment = {"conda_packages": ["native-tool=1.0", "team-tool"], "channels": [channel.address]}
    built = shared.wait(shared.submit(SCRIPT, environment=environment))
    made = Environment.from_existing_conda_environment("copy", str(built.environment["prefix"]))
    assert made is not None
    spec = environment_spec(made)
    assert spec.channels == (channel.address,) and {"native-tool=1.0", "team-tool=0.3"} <= set(spec.conda_packages)
    assert spec.python_version == built.environment["python_version"] and spec.pip_packages == ()
    again = shared.wait(shared.submit(SCRIPT, environment=to_wire(spec)))
    assert again.status is RunStatus.COMPLETED and again.environment["builder"] == built.environment["builder"]
