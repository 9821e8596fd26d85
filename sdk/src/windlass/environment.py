"""``Environment``: the Python environment a job asks for; v1's ``azureml.core.Environment``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, Dict, Optional

from windlass import _config_object
from windlass._environment_sections import NO_CONTAINERS, DockerSection, PythonSection
from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options, refuse_unknown
from windlass.conda_dependencies import CondaDependencies
from windlass.errors import UserErrorException
from windlass.specs.environment import EnvironmentSpec

if TYPE_CHECKING:
    from windlass._environment_registry import ImageBuildDetails
    from windlass.workspace import Workspace

_DEFAULT_INTERPRETER = "python"
_FILE = "azureml_environment.json"
_CONDA_FILE = "conda_dependencies.yml"


class Environment(_config_object.ConfigObject):
    """A named environment.

    Args:
        name: Shown with the run; it does not choose the packages.

    Attributes:
        python: Packages and interpreter.
        docker: Containers; only the defaults.
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
        """The newest version of each registered environment by name."""
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

    def __repr__(self) -> str:
        return "Environment(name=%r, python=%r)" % (
            self.name, self.python.interpreter_path if self.python.user_managed_dependencies else
            self.python.conda_dependencies,
        )  # fmt: skip

    add_private_pip_wheel = AbsentMethod("Put the wheel into a folder that PIP_FIND_LINKS of the server names.")
    build_local = AbsentMethod("Use build(workspace): the server of this machine builds it.")
    databricks = AbsentProperty("Databricks is not planned.")
    from_docker_build_context = AbsentMethod(NO_CONTAINERS)
    from_docker_image = AbsentMethod(NO_CONTAINERS)
    from_dockerfile = AbsentMethod(NO_CONTAINERS)
    from_existing_conda_environment = AbsentMethod(
        "Set python.user_managed_dependencies=True and python.interpreter_path to its interpreter."
    )
    get_image_details = AbsentMethod("There is no image; run.get_details() shows what was chosen.")
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
        NotOffered: it asks for a container.
        UserErrorException: its interpreter is not there.
    """
    environment.docker._check("docker")
    python = environment.python
    if python.base_conda_environment not in (None, "", "base"):
        raise UserErrorException(
            "python.base_conda_environment=%r: conda environments are not extended. Name its packages in "
            "python.conda_dependencies." % python.base_conda_environment
        )
    if python.user_managed_dependencies:
        return EnvironmentSpec(
            name=environment.name, user_managed=True, interpreter=find_interpreter(python.interpreter_path)
        )
    packages = python.conda_dependencies or CondaDependencies()
    return EnvironmentSpec(
        name=environment.name,
        python_version=packages.get_python_version(),
        pip_packages=tuple(packages._pip_lines()),
        conda_packages=tuple(packages.conda_packages),
    )


def _fill_environment(made: Environment, data: Any, where: str) -> None:
    """Set ``made`` to what a file says, conda dependencies included."""
    data = dict(data) if isinstance(data, dict) else data
    python = dict(data.get("python") or {}) if isinstance(data, dict) else {}
    conda = python.pop("condaDependencies", python.pop("conda_dependencies", None))
    if isinstance(data, dict):
        data["python"] = python
    _config_object.fill(made, data, where)
    if conda:
        made.python.conda_dependencies = CondaDependencies._from_dictionary(conda, where)


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
        if not isinstance(name, str) or not name or "=" in name or "\0" in name or "\0" in str(value):
            raise UserErrorException("%s has the name %r, which cannot be a variable's." % (argument, name))
        if not isinstance(value, (str, int, float)):
            raise UserErrorException("%s[%r] must be text, not %r." % (argument, name, value))
    return {name: str(value) for name, value in given.items()}
