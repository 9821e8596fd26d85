"""Containers as users of v1 ask for them: the seed's estimator, a Dockerfile with files, docker's arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from containers.building import SEED
from containers.jobs import IMAGE, Jobs, jobs
from windlass import Environment, Estimator, Experiment, Run, ScriptRunConfig, settings
from windlass import Workspace as UserWorkspace
from windlass._environment_sections import ContainerRegistry, DockerBuildContext
from windlass._runconfig_parts import DockerConfiguration
from windlass.errors import UserErrorException
from windlassd.envs._container_api import Api
from windlassd.envs._container_images import Name, push
from windlassd.envs.base import Work
from windlassd.envs.registry_logins import logins_of
from windlassd.testing.container_engines import PASSWORD, USER, Bases

__all__ = ["jobs"]
pytestmark = pytest.mark.containers
SCRIPT = """
import os, sys
shared = os.statvfs("/dev/shm")
print(sys.argv[1:], os.path.exists("/opt/extra/data"), os.environ.get("SAID"), shared.f_blocks * shared.f_frsize)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    return folder


def test_the_seeds_estimator_trains_in_its_image(jobs: Jobs, bases: Bases, source: Path) -> None:
    bases.image(jobs.engine, SEED)
    with pytest.warns(DeprecationWarning, match="custom_docker_base_image is deprecated"):
        estimator = Estimator(str(source), entry_script="train.py", script_params={"--epochs": 3},
                              custom_docker_base_image=SEED, shm_size="64m")  # fmt: skip
    run = Experiment(UserWorkspace._at(jobs.dir), "seed").submit(estimator)
    run.wait_for_completion()
    assert jobs.log(run.id) == f"['--epochs', '3'] False None {64 << 20}\n"
    shown = run.get_details()["runDefinition"]["environment"]
    assert shown["docker"]["baseImage"] == SEED and shown["resolved"]["image"].startswith("sha256:")


def test_a_dockerfile_with_files_beside_it(jobs: Jobs, source: Path, tmp_path: Path) -> None:
    ws = UserWorkspace._at(jobs.dir)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY data /opt/extra/data\n")
    (context / "data").write_text("1")
    kept = DockerBuildContext.from_local_directory(ws, str(context))
    Environment.from_docker_build_context("boxed", kept).register(ws)
    boxed = Environment.get(ws, "boxed")
    assert not boxed.get_image_details(ws).image_exist
    assert boxed.build(ws).wait_for_completion(show_output=False).status == "Succeeded"
    image = boxed.get_image_details(ws).image
    docker = DockerConfiguration(True, arguments=["-e", "SAID=hello", "--shm-size=32m", "--memory", "1g"])
    run = Experiment(ws, "boxed").submit(
        ScriptRunConfig(str(source), "train.py", environment=boxed, docker_runtime_config=docker)
    )
    run.wait_for_completion()
    assert jobs.log(run.id) == f"[] True hello {32 << 20}\n"
    assert run.get_details()["runDefinition"]["environment"]["resolved"]["image"] == image
    again = Experiment(ws, "boxed").submit(ScriptRunConfig(str(source), "train.py", environment=run.get_environment()))
    again.wait_for_completion()
    assert "True hello" in jobs.log(again.id)


def test_a_password_that_the_sdk_is_given_logs_in_at_the_registry(
    jobs: Jobs, private_registry: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-logins"))
    mine = logins_of(str(tmp_path / "elsewhere" / "environments"))
    mine.put(private_registry, USER, PASSWORD)
    api = Api(jobs.engine, Work(lambda line: None, timeout_s=60))
    push(api, IMAGE, Name(f"{private_registry}/team/base", "1"), mine)
    api.call("DELETE", f"/images/{private_registry}/team/base:1")

    def run_with(password: str) -> Run:
        behind = ContainerRegistry()
        behind.address, behind.username, behind.password = private_registry, USER, password
        boxed = Environment.from_docker_image("boxed", "team/base:1", behind)
        experiment = Experiment(UserWorkspace._at(jobs.dir), "private")
        run = experiment.submit(ScriptRunConfig(str(source), "train.py", environment=boxed))
        run.wait_for_completion(raise_on_error=False)
        return run

    refused = run_with("wrong-horse")
    assert refused.get_status() == "Failed"
    assert f"{private_registry} does not take the login for" in refused.get_details()["error"]["error"]["message"]
    trained = run_with(PASSWORD)
    assert trained.get_status() == "Completed", trained.get_details()
    files = [path for path in Path(settings.home()).rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path.name for path in files if PASSWORD.encode() in path.read_bytes()] == ["registry-logins.json"]


def test_a_dockerfile_that_fails_shows_its_last_words(jobs: Jobs) -> None:
    broken = Environment.from_dockerfile("broken", f"FROM {IMAGE}\nRUN no-such-program\n")
    with pytest.raises(UserErrorException, match="no-such-program"):
        broken.build(UserWorkspace._at(jobs.dir)).wait_for_completion(show_output=False)
