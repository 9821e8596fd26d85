"""What all estimators share: v1's ``MMLBaseEstimator``."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional

from windlass import settings
from windlass._config_job import job_of, with_framework
from windlass._estimator_config import fill, script_values
from windlass._job import Job
from windlass.conda_dependencies import CondaDependencies
from windlass.errors import TrainingException, UserErrorException
from windlass.runconfig import RunConfiguration
from windlass.specs.frameworks import FRAMEWORKS

_OVERRIDES = ("script_params", "inputs", "source_directory_data_store")


class MMLBaseEstimatorRunConfig(RunConfiguration):
    """The run configuration of an estimator, from the arguments of its constructor."""

    def __init__(
        self, compute_target: Any, vm_size: "Optional[str]" = None, vm_priority: "Optional[str]" = None,
        entry_script: "Optional[str]" = None, script_params: "Optional[Dict[str, Any]]" = None,
        node_count: "Optional[int]" = None, process_count_per_node: "Optional[int]" = None,
        distributed_backend: "Optional[str]" = None, use_gpu: "Optional[bool]" = None,
        use_docker: "Optional[bool]" = None, custom_docker_base_image: "Optional[str]" = None,
        custom_docker_image: "Optional[str]" = None, image_registry_details: Any = None, user_managed: bool = False,
        conda_packages: "Optional[List[str]]" = None, pip_packages: "Optional[List[str]]" = None,
        environment_definition: Any = None, inputs: Any = None, source_directory_data_store: Any = None,
        shm_size: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        given = arguments(locals())
        super().__init__()
        fill(self, {name: value for name, value in given.items() if value is not None}, "Estimator")
        self._inputs = _checked_inputs(inputs)
        self.arguments = script_values(script_params, None)


class MMLBaseEstimator:
    """A training job: source folder, compute target, and how it runs.

    Args:
        source_directory: The folder that is sent to the job.
        compute_target: A ComputeTarget or its name; None keeps that of ``estimator_config``.
        estimator_config: How it runs; a RunConfiguration.
    """

    _name = "Estimator"

    def __init__(
        self, source_directory: str, *, compute_target: Any, estimator_config: "Optional[RunConfiguration]" = None
    ) -> None:
        self._source_directory = source_directory
        self._config = estimator_config if estimator_config is not None else RunConfiguration()
        self._inputs = getattr(self._config, "_inputs", [])
        self._script_params: "Optional[Dict[str, Any]]" = None
        self._resume_from: Any = None
        if compute_target is not None:
            self._config.target = compute_target

    def _begin(self, given: "Dict[str, Any]") -> None:
        """Set everything from the arguments of a subclass's constructor."""
        config = RunConfiguration()
        fill(config, given, self._name)
        self._source_directory = given["source_directory"]
        self._config = config
        self._inputs = _checked_inputs(given.get("inputs"))
        self._script_params = given.get("script_params")
        self._resume_from = given.get("resume_from")

    @property
    def source_directory(self) -> str:
        """The folder that is sent to the job."""
        return self._source_directory

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The packages of the job; changes count for later submits. A framework estimator's own is not among them."""
        found: CondaDependencies = self._config.environment.python.conda_dependencies
        return found

    @property
    def run_config(self) -> RunConfiguration:
        """How the job runs; changes count for later submits."""
        return self._config

    def _job(self, **overrides: Any) -> Job:
        """The job this asks for, its values checked as far as they can be without the workspace.

        Args:
            overrides: ``script_params`` (added to those of the estimator), ``inputs`` and
                ``source_directory_data_store`` of this submit only.
        """
        for name in overrides:
            if name not in _OVERRIDES:
                raise UserErrorException("submit(%s=...): an estimator takes %s there." % (name, ", ".join(_OVERRIDES)))
        config = copy.copy(self._config)
        config.arguments = self._arguments(overrides.get("script_params"))
        if overrides.get("source_directory_data_store") is not None:
            store = overrides["source_directory_data_store"]
            config.source_directory_data_store = getattr(store, "name", store)
        inputs = self._inputs if overrides.get("inputs") is None else _checked_inputs(overrides["inputs"])
        return job_of(config, self._source_directory, script_argument="entry_script", inputs=tuple(inputs))

    def _arguments(self, more: Any) -> "List[Any]":
        if self._script_params is None and more is None and self._config.arguments:
            return self._config.arguments
        params = self._script_params
        if more is not None:
            script_values(more, None)
            params = dict(params or {}, **more)
        return script_values(params, self._resume_from)

    def __repr__(self) -> str:
        return "%s(source_directory=%r, entry_script=%r)" % (
            type(self).__name__, self._source_directory, self._config.script)  # fmt: skip


class FrameworkEstimator(MMLBaseEstimator):
    """An estimator that brings its framework along."""

    def _begin(self, given: "Dict[str, Any]") -> None:
        super()._begin(given)
        version = given.get("framework_version")
        if version is not None and (not isinstance(version, str) or not version):
            raise UserErrorException("framework_version=%r must be text such as '1.13'." % (version,))
        own = given.get("user_managed") or given.get("environment_definition") is not None
        if own and version is not None:
            raise TrainingException(
                "framework_version=%r together with %s: the environment is yours; name the framework there."
                % (version, "user_managed" if given.get("user_managed") else "environment_definition")
            )
        self._brings = not own
        self._version = version

    @property
    def framework_version(self) -> "Optional[str]":
        """The version asked for; None: the newest that fits (or v1's, by the setting ``framework_defaults``)."""
        return self._version or self._default()

    @classmethod
    def get_supported_versions(cls) -> "List[str]":
        """Versions that can be had where there is a Python for them, oldest first."""
        return list(FRAMEWORKS[cls._name].pythons)

    def _job(self, **overrides: Any) -> Job:
        job = super()._job(**overrides)
        if not self._brings:
            return job
        return with_framework(job, self._name, self._version or self._default())

    def _default(self) -> "Optional[str]":
        return FRAMEWORKS[self._name].v1_default if settings.get("framework_defaults") == "v1" else None


def arguments(local_names: "Dict[str, Any]") -> "Dict[str, Any]":
    """The arguments of a constructor, from its ``locals()`` at the first line."""
    return {name: value for name, value in local_names.items() if name not in ("self", "__class__")}


def _checked_inputs(inputs: Any) -> "List[Any]":
    if inputs is None:
        return []
    if not isinstance(inputs, (list, tuple)):
        raise UserErrorException("inputs must be a list of data references or datasets, not %r." % (inputs,))
    return list(inputs)
