"""``Environment``: the Python environment a job asks for; v1's ``azureml.core.Environment``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, Dict, Optional

from windlass._not_offered import AbsentMethod, not_offered, refuse_unknown
from windlass.conda_dependencies import CondaDependencies
from windlass.errors import UserErrorException
from windlass.specs.environment import EnvironmentSpec

_DEFAULT_INTERPRETER = "python"
_AZURE_IMAGE = "mcr.microsoft.com/azureml/"
_USE_PACKAGES = "Name the packages in env.python.conda_dependencies."
_IN_CODE = "Keep the Environment in your own code."


class PythonSection:
    """The Python part of an environment: packages, or an interpreter of your own.

    Attributes:
        conda_dependencies: Packages to install.
        user_managed_dependencies: True: take ``interpreter_path`` as it is and install nothing.
        interpreter_path: Interpreter of a user-managed environment; ``python`` is the one that submits.
    """

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown("PythonSection", kwargs)
        self.conda_dependencies: "CondaDependencies" = CondaDependencies()
        self.user_managed_dependencies = False
        self.interpreter_path = _DEFAULT_INTERPRETER


class DockerSection:
    """The container part of an environment. Only v1's defaults, which are no request, are offered.

    Attributes:
        enabled: v1 turns it on by default; it asks for nothing by itself.
        base_image: None or one of Microsoft's ``azureml`` images.
        base_dockerfile: Only None.
    """

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown("DockerSection", kwargs)
        self.enabled = False
        self.base_image: "Optional[str]" = None
        self.base_dockerfile: "Optional[str]" = None


class Environment:
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
        self.name = name
        self.version: "Optional[str]" = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: "Dict[str, str]" = {}

    def clone(self, new_name: str) -> "Environment":
        """A copy under another name; changing one leaves the other alone."""
        import copy

        made = copy.deepcopy(self)
        made.name = new_name
        return made

    def __repr__(self) -> str:
        return "Environment(name=%r, python=%r)" % (
            self.name, self.python.interpreter_path if self.python.user_managed_dependencies else
            self.python.conda_dependencies,
        )  # fmt: skip

    add_private_pip_wheel = AbsentMethod(_USE_PACKAGES)
    build = AbsentMethod("Environments are built by themselves at the first run that needs them.")
    build_local = AbsentMethod("Environments are built by themselves at the first run that needs them.")
    from_conda_specification = AbsentMethod(_USE_PACKAGES)
    from_docker_build_context = AbsentMethod(_USE_PACKAGES)
    from_docker_image = AbsentMethod(_USE_PACKAGES)
    from_dockerfile = AbsentMethod(_USE_PACKAGES)
    from_existing_conda_environment = AbsentMethod(
        "Set python.user_managed_dependencies=True and python.interpreter_path to its interpreter."
    )
    from_pip_requirements = AbsentMethod(_USE_PACKAGES)
    get = AbsentMethod(_IN_CODE)
    get_image_details = AbsentMethod("There is no image; run.get_details() shows what was chosen.")
    label = AbsentMethod(_IN_CODE)
    list = AbsentMethod("`windlass env` lists those that are built.")
    load_from_directory = AbsentMethod(_IN_CODE)
    register = AbsentMethod(_IN_CODE)
    save_to_directory = AbsentMethod(_IN_CODE)


def environment_spec(environment: Environment) -> EnvironmentSpec:
    """``environment`` as it goes over the wire.

    Raises:
        NotOffered: it asks for a container.
        UserErrorException: its interpreter is not there.
    """
    _refuse_containers(environment.docker)
    python = environment.python
    if python.user_managed_dependencies:
        return EnvironmentSpec(
            name=environment.name, user_managed=True, interpreter=find_interpreter(python.interpreter_path)
        )
    packages = python.conda_dependencies or CondaDependencies()
    return EnvironmentSpec(
        name=environment.name,
        python_version=packages.get_python_version(),
        pip_packages=tuple(packages.pip_packages),
        conda_packages=tuple(packages.conda_packages),
    )


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


def _refuse_containers(docker: DockerSection) -> None:
    if docker.base_image is not None and not docker.base_image.startswith(_AZURE_IMAGE):
        raise not_offered("docker.base_image=%r" % docker.base_image, _USE_PACKAGES)
    if docker.base_dockerfile is not None:
        raise not_offered("docker.base_dockerfile", _USE_PACKAGES)
    for name in set(vars(docker)) - {"enabled", "base_image", "base_dockerfile"}:
        raise not_offered("docker.%s" % name, _USE_PACKAGES)
