"""Environments with containers: what they ask for on the wire, what contradicts itself, where passwords go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azureml.core.environment import DockerBuildContext, DockerImageDetails, DockerSection
from sdk.fake_server import FakeServer
from windlass import Environment, Estimator, Experiment, Run, RunConfiguration, ScriptRunConfig, Workspace
from windlass._environment_sections import DEFAULT_GPU_IMAGE, ContainerRegistry
from windlass._runconfig_parts import DockerConfiguration
from windlass.environment import environment_spec
from windlass.errors import NotOffered, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec

PASSWORD = "hush-hush"


def registry(address: str = "registry.example:5000") -> ContainerRegistry:
    made = ContainerRegistry()
    made.address, made.username, made.password = address, "me", PASSWORD
    return made


def with_image(image: str = "microsoft/mmlspark:0.12") -> Environment:
    made = Environment("boxed")
    made.docker.base_image = image
    return made


@pytest.mark.parametrize("made", [Environment.from_dockerfile, Environment.from_docker_image])
def test_packages_added_to_an_image_that_its_user_manages_are_not_dropped_silently(made: Any) -> None:
    environment = made("boxed", "FROM debian" if made is Environment.from_dockerfile else "debian")
    dependencies = environment.python.conda_dependencies
    dependencies.add_pip_package("azureml-defaults")
    assert environment_spec(environment).user_managed, "what stands in v1's own lists is none"
    dependencies.add_pip_package("six==1.16")
    dependencies.add_conda_package("python-graphviz")
    with pytest.raises(UserErrorException, match=r"lists packages: python-graphviz, six==1\.16") as caught:
        environment_spec(environment)
    assert "user_managed_dependencies = False" in str(caught.value)
    assert "take them out of python.conda_dependencies" in str(caught.value)
    environment.python.user_managed_dependencies = False
    assert environment_spec(environment).pip_packages == ("azureml-defaults", "six==1.16")


def test_packages_of_a_user_managed_interpreter_are_taken_for_installed_with_a_warning() -> None:
    environment = Environment("mine")
    environment.python.user_managed_dependencies = True
    environment.python.conda_dependencies.add_pip_package("six")  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match="'mine' is user-managed.*lists packages: six"):
        assert environment_spec(environment).pip_packages == ()


def job(source: Path, environment: Environment, docker: DockerConfiguration | None = None) -> Any:
    return ScriptRunConfig(str(source), "train.py", environment=environment, docker_runtime_config=docker)._job()


def test_v1s_defaults_ask_for_no_container(source: Path) -> None:
    for image in (None, DEFAULT_GPU_IMAGE, DockerSection().base_image):
        made = Environment("plain")
        made.docker.base_image, made.docker.enabled, made.docker.gpu_support = image, True, True
        assert job(source, made, DockerConfiguration(use_docker=True)).environment.container is None
    with pytest.warns(UserWarning, match="ask for no container") as caught:
        made.docker.base_image = "mcr.microsoft.com/azureml/base:1"
    assert caught[0].filename == __file__ and environment_spec(made).container is None
    with pytest.warns(UserWarning, match="ask for no container"):
        estimator = Estimator(str(source), entry_script="train.py", custom_docker_image="mcr.microsoft.com/azureml/b:1")
    assert estimator._job().environment.container is None


def test_the_seeds_estimator_asks_for_its_image(source: Path) -> None:
    with pytest.warns(DeprecationWarning, match="custom_docker_base_image is deprecated"):
        made = Estimator(str(source), entry_script="train.py", custom_docker_base_image="microsoft/mmlspark:0.12",
                         pip_packages=["six"], shm_size="4g", image_registry_details=ContainerRegistry())  # fmt: skip
    wanted = made._job()
    assert wanted.environment.container == ContainerSpec(image="microsoft/mmlspark:0.12")
    assert wanted.environment.pip_packages == ("six",) and wanted.container.shm_bytes == 4 << 30
    assert wanted.definition["docker"]["useDocker"] is True


def test_the_image_is_named_relative_to_its_registry(source: Path) -> None:
    made = with_image("registry.example:5000/team/base:1")
    made.docker.base_image_registry = registry("https://registry.example:5000/")
    wanted = ContainerSpec(image="team/base:1", registry="registry.example:5000", username="me")
    assert environment_spec(made).container == wanted
    made.docker.base_image = "team/base:1"
    assert environment_spec(made).container == wanted


def test_packages_or_the_images_own_python(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("six\n")
    (tmp_path / "c.yml").write_text("channels:\n- conda-forge\ndependencies:\n- scipy\n")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN true\n")
    spec = environment_spec(Environment.from_docker_image("e", "debian:12", registry(), pip_requirements=str(
        tmp_path / "r.txt")))  # fmt: skip
    assert (spec.container, spec.pip_packages, spec.user_managed) == (
        ContainerSpec(image="debian:12", registry="registry.example:5000", username="me"), ("six",), False)  # fmt: skip
    spec = environment_spec(Environment.from_dockerfile("e", str(tmp_path / "Dockerfile"), str(tmp_path / "c.yml")))
    assert spec.container == ContainerSpec(dockerfile="FROM debian\nRUN true\n")
    assert (spec.conda_packages, spec.channels) == (("scipy",), ("conda-forge",))
    bare = Environment.from_dockerfile("e", "FROM debian")
    bare.python.interpreter_path = "/opt/image/python"
    spec = environment_spec(bare)
    assert (spec.user_managed, spec.interpreter) == (True, "/opt/image/python")
    with pytest.raises(UserErrorException, match="give one of them"):
        Environment.from_docker_image("e", "debian", conda_specification="c.yml", pip_requirements="r.txt")


def test_a_dockerfile_is_read_when_it_is_set_and_goes_to_a_folder_and_back(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\n")
    made = Environment("e")
    made.docker.base_image = None
    made.docker.base_dockerfile = str(tmp_path / "Dockerfile")
    (tmp_path / "Dockerfile").unlink()
    made.save_to_directory(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "BaseDockerfile").read_text() == "FROM debian\n"
    loaded = Environment.load_from_directory(str(tmp_path / "saved"))
    assert loaded.docker.base_dockerfile == "FROM debian\n" and loaded._to_dictionary() == made._to_dictionary()
    with_image().save_to_directory(str(tmp_path / "saved"), overwrite=True)
    again = Environment.load_from_directory(str(tmp_path / "saved"))
    assert again.docker.base_image == "microsoft/mmlspark:0.12" and again.docker.base_dockerfile is None
    for wrong in ("no/such/Dockerfile", "", 7, str(tmp_path)):
        with pytest.raises(UserErrorException, match="neither"):
            made.docker.base_dockerfile = wrong  # type: ignore[assignment]


def test_a_build_context_is_kept_in_the_workspace(ws: Workspace, fake: FakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "Dockerfile").write_text("FROM debian\nCOPY data /data\n")
    (folder / "data").write_text("1")
    context = DockerBuildContext.from_local_directory(ws, str(folder), "sub/Dockerfile")
    made = Environment.from_docker_build_context("e", context)
    spec = environment_spec(made)
    assert spec.container is not None and spec.container.dockerfile == "FROM debian\nCOPY data /data\n"
    assert [f["path"] for f in fake.snapshots[str(spec.container.context)]] == ["data", "sub/Dockerfile"]
    copy = Environment._from_dictionary(json.loads(json.dumps(made._to_dictionary())), "a file")
    assert environment_spec(copy) == spec
    with pytest.raises(UserErrorException, match="dockerfile_path='Dockerfile' is not in the folder"):
        DockerBuildContext.from_local_directory(ws, str(folder))
    with pytest.raises(NotOffered, match="from_local_directory"):
        environment_spec(Environment.from_docker_build_context("e", DockerBuildContext("git", "https://x.example/y")))


def test_how_the_container_runs(source: Path) -> None:
    made = with_image()
    made.docker.arguments = ["-e", "A=docker", "-e", "B=docker", "--memory=1g"]
    made.environment_variables = {"B": "environment"}
    wanted = job(source, made, DockerConfiguration(True, arguments=["--memory", "2g", "--ipc=host"], shm_size="3g"))
    assert (wanted.container.memory_bytes, wanted.container.host_ipc) == (2 << 30, True)
    assert wanted.container.shm_bytes == 3 << 30
    assert wanted.environment_variables == {"A": "docker", "B": "environment"}
    with pytest.raises(UserErrorException, match=r"--shm-size \(\d+ bytes\) and docker\.shm_size .*give one"):
        job(source, made, DockerConfiguration(arguments=["--shm-size=1g"], shm_size="3g"))
    with pytest.raises(UserErrorException, match=r"docker\.shm_size='big' is no size"):
        job(source, made, DockerConfiguration(shm_size="big"))
    with pytest.warns(UserWarning, match="hold in containers; this job runs without one"):
        assert job(source, Environment("e"), DockerConfiguration(arguments=["-e", "A=1"])).environment_variables


@pytest.mark.parametrize("image", [
    "debian", "microsoft/mmlspark:0.12", "Host.example:5000/a/b__c-d.e:v1_2", "a/b@sha256:" + "0" * 64,
    "a/b:1@sha256:" + "0" * 64, "sha256:" + "1a" * 32, "localhost/x",
])  # fmt: skip
def test_names_of_images(image: str) -> None:
    assert environment_spec(with_image(image)).container == ContainerSpec(image=image)


@pytest.mark.parametrize("image", ["", "Upper:1", "a/Upper", "a@@b", "a:", "-a", "a b", "a/", "a:b:c", "http://a/b", 7])
def test_what_no_image_can_be_called(image: Any) -> None:
    with pytest.raises(UserErrorException, match="no name of an image"):
        environment_spec(with_image(image))


def _off(made: Environment) -> None:
    made.docker.enabled = False


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: setattr(e.docker, "base_dockerfile", "FROM x"), r"base_image='microsoft.*base_dockerfile: give one"),
        (_off, r"docker\.enabled=False and environment\.docker\.base_image="),
        (lambda e: setattr(e.docker, "base_image", "two words"), "'two words' is no name of an image"),
        (lambda e: setattr(e.docker, "base_image", None) or setattr(e.docker, "base_image_registry", registry()),
         "address='registry.example:5000' needs an image"),
        (lambda e: setattr(e.docker, "base_image_registry", registry("me:secret@host")), "address holds credentials"),
        (lambda e: setattr(e.docker, "base_image_registry", registry("a b")), "address='a b' is none"),
        (lambda e: setattr(e.docker.base_image_registry, "username", "me"), "no address; give the address"),
        (lambda e: setattr(e.docker, "shared_volumes", False), "shared_volumes=False is not offered"),
        (lambda e: setattr(e.docker.base_image_registry, "registry_identity", "id"), "Give username and password"),
        (lambda e: setattr(e.docker, "build_context", "folder"), "give one of them"),
    ],
)  # fmt: skip
def test_contradictions_name_both_sides(change: Any, says: str) -> None:
    made = with_image()
    change(made)
    with pytest.raises(UserErrorException, match=says) as caught:
        environment_spec(made)
    assert "secret" not in str(caught.value)


def test_a_container_switched_off_on_the_run_configuration(source: Path) -> None:
    config = RunConfiguration("train.py")
    config.environment = with_image()
    config.docker.use_docker = False
    with pytest.raises(UserErrorException, match=r"use_docker=False contradicts the environment"):
        ScriptRunConfig(str(source), run_config=config)._job()
    config.docker.use_docker = True
    assert ScriptRunConfig(str(source), run_config=config)._job().environment.container is not None


def test_a_saved_run_configuration_keeps_its_image_and_no_password(source: Path, tmp_path: Path) -> None:
    config = RunConfiguration("train.py")
    config.environment = with_image()
    config.environment.docker.base_image_registry = registry()
    config.save(str(tmp_path / "x.yml"))
    assert PASSWORD not in (tmp_path / "x.yml").read_text()
    loaded = RunConfiguration.load(str(tmp_path / "x.yml"))  # `useDocker: false` in it is only v1's default
    spec = ScriptRunConfig(str(source), run_config=loaded)._job().environment
    assert spec.container == ContainerSpec("microsoft/mmlspark:0.12", registry="registry.example:5000", username="me")


def test_the_password_goes_to_the_server_and_nowhere_else(
    fake: FakeServer, experiment: Experiment, ws: Workspace, source: Path
) -> None:
    made = with_image()
    made.docker.base_image_registry = registry()
    config = ScriptRunConfig(str(source), "train.py", environment=made)
    run = experiment.submit(config)
    sent = {"address": "registry.example:5000", "username": "me", "password": PASSWORD}
    assert fake.logins == [sent]
    assert fake.calls.index(("PUT", "/v1/registry-logins")) < fake.calls.index(("POST", "/v1/runs"))
    made.build(ws).wait_for_completion(show_output=False)
    registered = made.register(ws)
    assert fake.logins == [sent] * 3 and registered.docker.base_image_registry.username == "me"
    kept = [fake.requests, fake.runs, run.get_details(), repr(config._job()), repr(made), repr(made.docker), str(made)]
    assert PASSWORD not in repr(kept)


def test_the_run_definition_shows_what_was_asked(fake: FakeServer, experiment: Experiment, source: Path) -> None:
    made = with_image()
    made.docker.base_image_registry = registry()
    docker = DockerConfiguration(True, arguments=["--cpus=2"])
    run: Run = experiment.submit(
        ScriptRunConfig(str(source), "train.py", environment=made, docker_runtime_config=docker)
    )
    definition = run.get_details()["runDefinition"]
    assert definition["docker"]["useDocker"] is True and definition["docker"]["arguments"] == ["--cpus=2"]
    shown = definition["environment"]["docker"]
    assert (shown["baseImage"], shown["options"]) == ("microsoft/mmlspark:0.12", {"cpus": 2.0})
    assert shown["baseImageRegistry"] == {"address": "registry.example:5000", "username": "me"}


@pytest.mark.parametrize("container", [
    ContainerSpec(image="team/base:1", registry="registry.example", username="me"), ContainerSpec(image="debian"),
    ContainerSpec(dockerfile="FROM debian\n"), ContainerSpec(dockerfile="FROM debian\n", context="c" * 64), None,
])  # fmt: skip
@pytest.mark.parametrize("more", [
    {"pip_packages": ("six",), "conda_packages": ("scipy",), "channels": ("mine",), "python_version": "3.9"},
    {"user_managed": True, "interpreter": "/bin/sh"},
])  # fmt: skip
def test_a_runs_environment_can_be_asked_for_again(
    run: Run, fake: FakeServer, container: ContainerSpec | None, more: dict[str, Any]
) -> None:
    spec = EnvironmentSpec(name="boxed", container=container, **more)
    fake.runs[run.id]["spec"]["environment"] = to_wire(spec)
    assert environment_spec(run.get_environment()) == spec


def test_the_framework_of_a_runs_environment_is_among_its_packages(run: Run, fake: FakeServer) -> None:
    fake.runs[run.id]["spec"]["environment"] = {"framework": "PyTorch", "framework_version": "1.4"}
    spec = environment_spec(run.get_environment())
    assert "torch==1.4.*" in spec.pip_packages and "python>=3.7,<3.9" in spec.conda_packages


def test_what_is_built_for_an_image(fake: FakeServer, ws: Workspace) -> None:
    made = with_image()
    details = made.get_image_details(ws)
    assert isinstance(details, DockerImageDetails) and not details.image_exist and details.image is None
    fake.ready = {"image": "sha256:1", "prefix": "/env", "python": "/env/bin/python"}
    details = made.get_image_details(ws)
    assert (details.image_exist, details.image, details.repository) == (True, "sha256:1", "microsoft/mmlspark:0.12")
    assert (details.environment_path, details.interpreter_path) == ("/env", "/env/bin/python")
    assert details.registry == {"address": None, "username": None} and details.dockerfile is None
    assert details["image"] == "sha256:1"


def test_build_local_builds_where_jobs_are_built(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_image().build_local(ws, useDocker=True).status == "Succeeded"
    assert capsys.readouterr().out == "one\ntwo\n"
    for given in ({"platform": "win"}, {"useDocker": False}, {"pushImageToWorkspaceAcr": True}):
        with pytest.raises(NotOffered, match=next(iter(given))):
            with_image().build_local(ws, **given)  # type: ignore[arg-type]


def test_variables_of_a_conda_file_reach_the_job(source: Path) -> None:
    (source / "env.yml").write_text("dependencies:\n- scipy\nvariables:\n  A: file\n  B: file\n")
    made = Estimator(str(source), entry_script="train.py", conda_dependencies_file=str(source / "env.yml"),
                     environment_variables={"B": "own"})  # fmt: skip
    assert made._job().environment_variables == {"A": "file", "B": "own"}


@pytest.mark.parametrize("labels", [None, [], "", [""], ["a", 1]])
def test_labels_are_texts(ws: Workspace, labels: Any) -> None:
    with pytest.raises(UserErrorException, match=r"labels=.* must be a list of texts such as \['prod'\]"):
        Environment.label(ws, "env", "1", labels)


def test_what_is_given_by_mistake_is_named(ws: Workspace) -> None:
    made = Environment("mine")
    made.python.conda_dependencies = ["numpy"]  # type: ignore[assignment]
    with pytest.raises(UserErrorException, match=r"conda_dependencies=\['numpy'\] must be CondaDependencies"):
        environment_spec(made)
    with pytest.raises(UserErrorException, match="file_path=None must be the path of a wheel"):
        Environment.add_private_pip_wheel(ws, None)  # type: ignore[arg-type]


def test_a_clone_is_its_own(tmp_path: Path) -> None:
    first = with_image()
    first.docker.base_image_registry = registry()
    second = first.clone("other")
    second.docker.base_image = "debian"
    second.python.conda_dependencies.add_pip_package("six")  # type: ignore[union-attr]
    assert (first.name, first.docker.base_image) == ("boxed", "microsoft/mmlspark:0.12")
    assert environment_spec(first).pip_packages == () and second.docker.base_image_registry.password == PASSWORD


@pytest.mark.parametrize("text", [
    "{", "[]", '{"docker": "x"}',
    '{"python": [1]}', '{"docker": {"buildContext": 3}}', '{"docker": {"platform": "arm"}}',
    '{"python": {"condaDependencies": {"dependencies": 3}}}',
])  # fmt: skip
def test_a_damaged_file_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "azureml_environment.json").write_text(text)
    with pytest.raises(UserErrorException, match=r"azureml_environment\.json"):
        Environment.load_from_directory(str(tmp_path))
