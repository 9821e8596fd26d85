"""``Environment``: the Python environment a job asks for; v1's ``azureml.core.Environment``."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any, Dict, Optional

from windlass import _config_object
from windlass._environment_sections import (
    ContainerRegistry,
    DockerBuildContext,
    DockerSection,
    PythonSection,
    image_name,
    is_azure_image,
)
from windlass._not_offered import AbsentProperty, not_offered, refuse_options, refuse_unknown
from windlass._warn import warn
from windlass.conda_dependencies import CondaDependencies
from windlass.errors import UserErrorException
from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec

if TYPE_CHECKING:
    from windlass._environment_registry import DockerImageDetails, ImageBuildDetails
    from windlass.workspace import Workspace

_DEFAULT_INTERPRETER = "python"
_COMES_ANYWAY = re.compile(r"(python|pip|azureml(-[a-z0-9-]+)?)(?![\w.-])", re.IGNORECASE)
"""What v1 lists by default, and the image or interpreter has, or Windlass stands in for."""
_FILE = "azureml_environment.json"
_CONDA_FILE = "conda_dependencies.yml"
_DOCKERFILE = "BaseDockerfile"


class Environment(_config_object.ConfigObject):
    """A named environment.

    Args:
        name: Shown with the run; it does not choose the packages.

    Attributes:
        python: Packages and interpreter.
        docker: The container it is made in; v1's defaults ask for none.
        environment_variables: Variables of the job, by name.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        refuse_unknown("Environment", kwargs)
        if not isinstance(name, str) or not name:
            raise UserErrorException("Environment(name=%r): the name must be text." % (name,))
        self._fill(name)

    def _fill(self, name: "Optional[str]") -> None:
        self.name = name
        self.version: "Optional[str]" = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: "Dict[str, str]" = {}
        self.inferencing_stack_version: "Optional[str]" = None
        self.asset_id: "Optional[str]" = None
        self._close()

    def clone(self, new_name: str) -> "Environment":
        """A copy under another name; changing one leaves the other alone."""
        import copy

        made = copy.deepcopy(self)
        made.name = new_name
        return made

    @staticmethod
    def from_conda_specification(name: str, file_path: str) -> "Environment":
        """An environment of the packages in a conda environment file.

        Raises:
            UserErrorException: the file cannot be read.
        """
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_pip_requirements(name: str, file_path: str, pip_version: "Optional[str]" = None) -> "Environment":
        """An environment of the packages in a requirements file. ``pip_version`` installs that pip as well.

        Raises:
            UserErrorException: the file cannot be read or holds other options of pip.
        """
        from windlass._requirements_file import read_requirements

        packages = read_requirements(file_path) + (["pip==%s" % pip_version] if pip_version else [])
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies.create(pip_packages=packages)
        return made

    @staticmethod
    def from_docker_image(
        name: str, image: str, container_registry: "Optional[ContainerRegistry]" = None,
        conda_specification: "Optional[str]" = None, pip_requirements: "Optional[str]" = None,
    ) -> "Environment":  # fmt: skip
        """An environment in a container of ``image``, with the packages of one file, or else with what the image has.

        Raises:
            UserErrorException: the image or registry can be none, a file cannot be read, or both files are given.
        """
        made = Environment(name)
        made.docker.base_image = image_name("image", image)
        if container_registry is not None:
            made.docker.base_image_registry = container_registry
        made._in_image(conda_specification, pip_requirements)
        return made

    @staticmethod
    def from_dockerfile(
        name: str, dockerfile: str, conda_specification: "Optional[str]" = None,
        pip_requirements: "Optional[str]" = None,
    ) -> "Environment":  # fmt: skip
        """An environment in a container of the image that a Dockerfile, text or path, makes; packages as above.

        Raises:
            UserErrorException: ``dockerfile`` is none, a file cannot be read, or both files are given.
        """
        made = Environment(name)
        made.docker.base_image = None
        made.docker.base_dockerfile = dockerfile
        made._in_image(conda_specification, pip_requirements)
        return made

    @staticmethod
    def from_docker_build_context(name: str, docker_build_context: DockerBuildContext) -> "Environment":
        """An environment in a container of the image that a Dockerfile and the files beside it make."""
        if not isinstance(docker_build_context, DockerBuildContext):
            raise UserErrorException("docker_build_context=%r is no DockerBuildContext." % (docker_build_context,))
        made = Environment(name)
        made.docker.base_image = None
        made.docker.build_context = docker_build_context
        made._in_image(None, None)
        return made

    def _in_image(self, conda_specification: "Optional[str]", pip_requirements: "Optional[str]") -> None:
        """Take the packages of one file, or what the image has."""
        if conda_specification is not None and pip_requirements is not None:
            raise UserErrorException(
                "conda_specification=%r and pip_requirements=%r: give one of them."
                % (conda_specification, pip_requirements)
            )
        self.docker.enabled = True
        if conda_specification is not None:
            self.python.conda_dependencies = CondaDependencies(conda_specification)
        elif pip_requirements is not None:
            from windlass._requirements_file import read_requirements

            packages = read_requirements(pip_requirements)
            self.python.conda_dependencies = CondaDependencies.create(pip_packages=packages)
        else:
            self.python.user_managed_dependencies = not is_azure_image(self.docker.base_image)

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> "Optional[Environment]":
        """An environment of all that a conda environment of this machine has, each package in its version.

        ``conda_environment_name`` is its name or its folder; conda itself need not be there. None, with a warning that
        says why, when there is no such environment or it cannot be told what is in it, as in v1.
        """
        from windlass import _conda_environments

        dependencies = _conda_environments.export(conda_environment_name)
        if dependencies is None:
            return None
        made = Environment(name)
        made.python.conda_dependencies = dependencies
        return made

    def save_to_directory(self, path: str, overwrite: bool = False) -> None:
        """Write the environment as files into the folder ``path``.

        Raises:
            UserErrorException: there is something already and ``overwrite`` is False.
        """
        import json

        if os.path.isdir(path) and os.listdir(path) and not overwrite:
            raise UserErrorException("%s is not empty. Give another folder, or overwrite=True." % path)
        os.makedirs(path, exist_ok=True)
        definition = self._to_dictionary()
        definition["python"].pop("condaDependencies")
        dockerfile = definition["docker"].pop("baseDockerfile")
        if dockerfile is not None:
            with open(os.path.join(path, _DOCKERFILE), "w", encoding="utf-8") as f:
                f.write(dockerfile)
        elif os.path.exists(os.path.join(path, _DOCKERFILE)):
            os.remove(os.path.join(path, _DOCKERFILE))
        with open(os.path.join(path, _FILE), "w", encoding="utf-8") as f:
            json.dump(definition, f, indent=4)
        (self.python.conda_dependencies or CondaDependencies()).save(os.path.join(path, _CONDA_FILE))

    @staticmethod
    def load_from_directory(path: str) -> "Environment":
        """The environment that ``save_to_directory`` wrote.

        Raises:
            UserErrorException: there is none, or it cannot be read.
        """
        import json

        file = os.path.join(path, _FILE)
        try:
            with open(file, encoding="utf-8") as f:
                definition = json.load(f)
        except (OSError, ValueError) as problem:
            raise UserErrorException("No environment can be read from %s: %s." % (file, problem)) from problem
        made = Environment._from_dictionary(definition, file)
        conda = os.path.join(path, _CONDA_FILE)
        if os.path.exists(conda):
            made.python.conda_dependencies = CondaDependencies(conda)
        dockerfile = os.path.join(path, _DOCKERFILE)
        if os.path.exists(dockerfile):
            made.docker.base_dockerfile = dockerfile
        return made

    def _to_dictionary(self) -> "Dict[str, Any]":
        """The whole environment in v1's shape; no credentials."""
        found = _config_object.to_dictionary(self)
        found["python"]["condaDependencies"] = (self.python.conda_dependencies or CondaDependencies()).as_dict()
        found["docker"]["baseImageRegistry"].pop("password")
        return found

    @staticmethod
    def _from_dictionary(data: Any, where: str) -> "Environment":
        """The environment of ``_to_dictionary``; ``where`` names the source in messages."""
        made = EnvironmentDefinition()
        _fill_environment(made, data, where)
        return made

    def register(self, workspace: "Workspace") -> "Environment":
        """Keep it in the workspace; returns it with its version, which counts up when the content changed."""
        from windlass import _environment_registry

        return _environment_registry.register(self, workspace)

    @staticmethod
    def get(
        workspace: "Workspace", name: str, version: "Optional[str]" = None, label: "Optional[str]" = None
    ) -> "Environment":
        """A registered environment: of that version, of that label, or the newest.

        Raises:
            UserErrorException: there is none.
        """
        from windlass import _environment_registry

        return _environment_registry.get(workspace, name, version, label)

    @staticmethod
    def list(workspace: "Workspace") -> "Dict[str, Environment]":
        """Environments by name: the newest version of each registered one, and v1's curated ones."""
        from windlass import _environment_registry

        return _environment_registry.newest(workspace)

    @staticmethod
    def label(workspace: "Workspace", name: str, version: str, labels: Any) -> None:
        """Put labels on a version of a registered environment; they leave the one they stood on."""
        from windlass import _environment_registry

        _environment_registry.label(workspace, name, version, labels)

    def build(self, workspace: "Workspace", image_build_compute: "Optional[str]" = None) -> "ImageBuildDetails":
        """Build it now; ``wait_for_completion`` of what is returned waits for it and shows the log.

        Args:
            workspace: Whose server builds it.
            image_build_compute: Not offered: the server builds it.
        """
        from windlass import _environment_registry

        refuse_options("Environment.build", {
            "image_build_compute": (image_build_compute, None, "The server builds it; leave it out."),
        })  # fmt: skip
        return _environment_registry.build(self, workspace)

    def build_local(
        self, workspace: "Workspace", platform: "Optional[str]" = None, **kwargs: Any
    ) -> "ImageBuildDetails":  # fmt: skip
        """Build it now, show the log, and return when it is built: the server of this machine does it as for a job.

        Args:
            workspace: Whose server builds it.
            platform: Not offered: it is built for this machine.
            kwargs: v1's ``useDocker``, which must be True (its default) for an environment with an image.

        Raises:
            UserErrorException: it cannot be built.
        """
        from windlass import _environment_registry

        refuse_options("Environment.build_local", {
            "platform": (platform, None, "It is built for this machine; leave it out."),
        })  # fmt: skip
        given = dict(kwargs)
        if given.pop("useDocker", True) is not True and environment_spec(self).container is not None:
            raise not_offered("useDocker=False for an environment with an image", "Leave it out.")
        refuse_unknown("Environment.build_local", given)
        return _environment_registry.build(self, workspace).wait_for_completion()

    def get_image_details(self, workspace: "Workspace") -> "DockerImageDetails":
        """What is built for it, if it is: image, registry, interpreter, folder; nothing is built for the question."""
        from windlass import _environment_registry

        return _environment_registry.image_details(self, workspace)

    @staticmethod
    def add_private_pip_wheel(workspace: "Workspace", file_path: str, exist_ok: bool = False) -> str:
        """Keep a wheel with the workspace; returns the address to give among the pip packages.

        Args:
            workspace: Whose default datastore keeps it.
            file_path: The wheel.
            exist_ok: Whether a wheel of that name may be there; each content has an address of its own.

        Raises:
            UserErrorException: it is no wheel, or there is one of that name and ``exist_ok`` is False.
        """
        from windlass import _private_wheels

        return _private_wheels.add(workspace, file_path, exist_ok)

    def __repr__(self) -> str:
        return "Environment(name=%r, python=%r)" % (
            self.name, self.python.interpreter_path if self.python.user_managed_dependencies else
            self.python.conda_dependencies,
        )  # fmt: skip

    databricks = AbsentProperty("Databricks is not planned.")
    r = AbsentProperty("R is not planned.")
    spark = AbsentProperty("Spark is not planned.")


class EnvironmentDefinition(Environment):
    """v1's ``azureml.core.runconfig.EnvironmentDefinition``: an environment that may lack a name."""

    def __init__(self, name: "Optional[str]" = None) -> None:
        self._fill(name)


class EnvironmentReference(_config_object.ConfigObject):
    """Name and version of a registered environment."""

    def __init__(self, name: str, version: "Optional[str]" = None) -> None:
        self.name = name
        self.version = version
        self._close()

    def get_environment(self, workspace: "Workspace") -> Environment:
        """The registered environment."""
        found: Environment = Environment.get(workspace, self.name, self.version)
        return found


def environment_spec(environment: Environment) -> EnvironmentSpec:
    """``environment`` as it goes over the wire.

    Raises:
        NotOffered: it asks for what no container here has.
        UserErrorException: parts of it contradict each other, or its interpreter is not there.
    """
    container = environment.docker._spec("environment.docker")
    python = environment.python
    if python.base_conda_environment not in (None, "", "base"):
        raise UserErrorException(
            "python.base_conda_environment=%r: conda environments are not extended. Name its packages in "
            "python.conda_dependencies." % python.base_conda_environment
        )
    if python.user_managed_dependencies:
        path = python.interpreter_path
        _tell_not_installed(environment, in_image=container is not None)
        return EnvironmentSpec(
            name=environment.name, user_managed=True, container=container,
            interpreter=find_interpreter(path) if container is None else path or _DEFAULT_INTERPRETER,
        )  # fmt: skip
    packages = python.conda_dependencies or CondaDependencies()
    if not isinstance(packages, CondaDependencies):
        raise UserErrorException(
            "python.conda_dependencies=%r must be CondaDependencies, such as "
            "CondaDependencies.create(pip_packages=['numpy'])." % (packages,)
        )
    return EnvironmentSpec(
        name=environment.name,
        python_version=packages.get_python_version(),
        pip_packages=tuple(packages._pip_lines()),
        conda_packages=tuple(packages.conda_packages),
        channels=tuple(packages.conda_channels),
        container=container,
    )


def _tell_not_installed(environment: Environment, in_image: bool) -> None:
    """Do not drop packages of a user-managed environment silently: an image may lack them, so that is an error.

    On this machine v1 took them for installed, and scripts rely on that, so it is a warning.
    """
    packages = environment.python.conda_dependencies or CondaDependencies()
    listed = [*packages.conda_packages, *packages.pip_packages]
    named = [text for text in listed if not _COMES_ANYWAY.match(text)]
    if not named:
        return
    said = "Environment %r is user-managed, so that nothing is installed, and lists packages: %s." % (
        environment.name, ", ".join(named))  # fmt: skip
    if in_image:
        raise UserErrorException(
            "%s To have them installed on top of the image, set python.user_managed_dependencies = False; if the image "
            "has them, take them out of python.conda_dependencies." % said
        )
    warn("%s To have them installed, set python.user_managed_dependencies = False." % said)


def environment_of(spec: EnvironmentSpec) -> Environment:
    """The environment that asks for ``spec``, its framework among the packages."""
    made = Environment(spec.name or "Environment")
    if spec.container is not None:
        _set_container(made.docker, spec.container)
    if spec.user_managed:
        made.python.user_managed_dependencies = True
        made.python.interpreter_path = spec.interpreter or _DEFAULT_INTERPRETER
        return made
    pip, conda = list(spec.pip_packages), list(spec.conda_packages)
    if spec.framework:
        from windlass.specs.frameworks import FRAMEWORKS, choose

        chosen = choose(FRAMEWORKS[spec.framework], spec.framework_version, gpu=False)
        pip = CondaDependencies.merge_requirements([*pip, chosen.requirement, *chosen.along])
        conda += ["python" + chosen.python] if chosen.python and not spec.python_version else []
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=pip, conda_packages=conda, python_version=spec.python_version
    )
    for channel in spec.channels:
        made.python.conda_dependencies.add_channel(channel)
    return made


def _set_container(docker: DockerSection, container: ContainerSpec) -> None:
    docker.enabled = True
    docker.base_image = container.image
    docker.base_image_registry.address, docker.base_image_registry.username = container.registry, container.username
    if container.context is not None:
        docker.build_context = DockerBuildContext(DockerBuildContext.LocationType.StorageAccount, container.context)
        docker.build_context.dockerfile_text = container.dockerfile
    elif container.dockerfile is not None:
        docker.base_dockerfile = container.dockerfile


def _fill_environment(made: Environment, data: Any, where: str) -> None:
    """Set ``made`` to what a file says, conda dependencies included."""
    data = dict(data) if isinstance(data, dict) else data
    python, docker = _section(data, "python", where), _section(data, "docker", where)
    conda = python.pop("condaDependencies", python.pop("conda_dependencies", None))
    context = docker.pop("buildContext", docker.pop("build_context", None))
    if isinstance(data, dict):
        data.update(python=python, docker=docker)
    _config_object.fill(made, data, where)
    if context:
        made.docker.build_context = DockerBuildContext()
        _config_object.fill(made.docker.build_context, context, where)
    if conda:
        made.python.conda_dependencies = CondaDependencies._from_dictionary(conda, where)


def _section(data: Any, name: str, where: str) -> "Dict[str, Any]":
    found = data.get(name) if isinstance(data, dict) else None
    if found is not None and not isinstance(found, dict):
        raise UserErrorException("%s: %r must be a mapping, not %r." % (where, name, found))
    return dict(found or {})


def find_interpreter(path: str) -> str:
    """Absolute path of a user-managed environment's interpreter; ``python`` is the one running now.

    Raises:
        UserErrorException: there is none.
    """
    if path == _DEFAULT_INTERPRETER and sys.executable:
        return sys.executable
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        raise UserErrorException(
            "interpreter_path=%r is no program here. Give the absolute path of a Python interpreter." % path
        )
    return os.path.abspath(found)


def variables(argument: str, given: Any) -> "Dict[str, str]":
    """Environment variables as text.

    Raises:
        UserErrorException: they are no dictionary, or a name cannot be a variable's.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise UserErrorException("%s must be a dictionary of names and values, not %r." % (argument, given))
    for name, value in given.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise UserErrorException("%s has the name %r, which cannot be a variable's." % (argument, name))
        if not isinstance(value, (str, int, float)) or "\0" in str(value):
            raise UserErrorException("%s[%r] must be text without NUL, not %r." % (argument, name, value))
    return {name: str(value) for name, value in given.items()}
