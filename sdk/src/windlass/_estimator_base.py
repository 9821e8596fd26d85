"""What all estimators share: v1's ``MMLBaseEstimator``."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

from windlass._job import Job, count, duration, folder_path, script_arguments, script_path, target_name
from windlass._not_offered import AbsentProperty
from windlass.conda_dependencies import CondaDependencies
from windlass.environment import Environment, environment_spec, find_interpreter, variables
from windlass.specs.environment import EnvironmentSpec


class EstimatorBase:
    """A training job: source folder, entry script with parameters, packages, compute target.

    The constructor of each subclass checks what it does not offer; the values are checked by ``Experiment.submit``.
    """

    _framework = "Python"

    def __init__(
        self, source_directory: str, *, compute_target: Any = None, entry_script: "Optional[str]" = None,
        script_params: "Optional[Dict[str, Any]]" = None, node_count: int = 1, process_count_per_node: int = 1,
        use_gpu: bool = False, user_managed: bool = False, conda_dependencies: "Optional[CondaDependencies]" = None,
        environment_variables: "Optional[Dict[str, str]]" = None,
        environment_definition: "Optional[Environment]" = None, max_run_duration_seconds: "Optional[int]" = None,
    ) -> None:  # fmt: skip
        self._source_directory = source_directory
        self._compute_target = compute_target
        self._entry_script = entry_script
        self._script_params = script_params
        self._node_count = node_count
        self._process_count_per_node = process_count_per_node
        self._use_gpu = use_gpu
        self._user_managed = user_managed
        self._conda_dependencies = conda_dependencies or CondaDependencies()
        self._environment_variables = environment_variables
        self._environment_definition = environment_definition
        self._max_run_duration_seconds = max_run_duration_seconds

    @property
    def source_directory(self) -> str:
        """The folder that is sent to the job."""
        return self._source_directory

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The packages of the job; changes count for later submits."""
        if self._environment_definition is not None:
            return self._environment_definition.python.conda_dependencies
        return self._conda_dependencies

    run_config = AbsentProperty("Give the constructor what you would set on it.")

    def _job(self) -> Job:
        """The job this asks for, its values checked as far as they can be without the workspace."""
        environment, environment_variables = self._environment()
        return Job(
            source_directory=folder_path(self._source_directory),
            script=script_path("entry_script", self._entry_script),
            arguments=script_arguments(self._script_params),
            target=target_name(self._compute_target),
            environment=environment,
            environment_variables=environment_variables,
            node_count=count("node_count", self._node_count),
            process_count_per_node=count("process_count_per_node", self._process_count_per_node),
            max_run_duration_s=duration("max_run_duration_seconds", self._max_run_duration_seconds),
            framework=self._framework,
        )

    def _environment(self) -> "Tuple[EnvironmentSpec, Dict[str, str]]":
        own = variables("environment_variables", self._environment_variables)
        definition = self._environment_definition
        if definition is not None:
            merged = variables("environment_definition.environment_variables", definition.environment_variables)
            merged.update(own)
            return environment_spec(definition), merged
        if self._user_managed:
            return EnvironmentSpec(user_managed=True, interpreter=find_interpreter("python")), own
        packages = self._conda_dependencies
        spec = EnvironmentSpec(
            python_version=packages.get_python_version(),
            pip_packages=tuple(packages.pip_packages),
            conda_packages=tuple(packages.conda_packages),
        )
        return spec, own
