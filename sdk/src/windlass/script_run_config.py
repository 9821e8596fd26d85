"""``ScriptRunConfig``: a script with its target and environment; v1's ``azureml.core.ScriptRunConfig``."""

from __future__ import annotations

import copy
import shlex
from typing import Any, List, Optional, Union

from windlass._config_job import job_of
from windlass._job import Job
from windlass._not_offered import refuse_unknown
from windlass._resume import resume_arguments
from windlass._runconfig_parts import (
    DockerConfiguration,
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from windlass.environment import Environment
from windlass.errors import UserErrorException
from windlass.runconfig import RunConfiguration

MAX_DURATION_SECONDS_DEFAULT = 2592000
"""Thirty days, as in v1."""


class ScriptRunConfig:
    """A script to run.

    Args:
        source_directory: Folder with the script; its files are sent to the job.
        script: The script, relative to ``source_directory``.
        arguments: Its arguments: a list, or text that is split as a shell would.
        run_config: A RunConfiguration to start from; what is given here wins over it.
        compute_target: A ComputeTarget or its name; None is this machine.
        environment: The job's environment; None is a bare one.
        distributed_job_config: An Mpi-, Tensorflow- or PyTorchConfiguration; one node with one process for now.
        resume_from: Data of an earlier run; its path is passed as ``--resume-from``.
        max_run_duration_seconds: After this the run is stopped.
        command: Instead of ``script``: a list of words, run without a shell, or text for a shell.
        docker_runtime_config: A DockerConfiguration.
    """

    def __init__(
        self, source_directory: str, script: "Optional[str]" = None, arguments: "Union[List[Any], str, None]" = None,
        run_config: "Optional[RunConfiguration]" = None, compute_target: Any = None,
        environment: "Optional[Environment]" = None, distributed_job_config: Any = None, resume_from: Any = None,
        max_run_duration_seconds: "Optional[int]" = MAX_DURATION_SECONDS_DEFAULT, command: Any = None,
        docker_runtime_config: "Optional[DockerConfiguration]" = None,
    ) -> None:  # fmt: skip
        _check_type("run_config", run_config, RunConfiguration)
        _check_type("environment", environment, Environment)
        _check_type("docker_runtime_config", docker_runtime_config, DockerConfiguration)
        if command and script:
            raise UserErrorException("Give a script or a command, not both (script=%r)." % (script,))
        if command and arguments:
            raise UserErrorException("Give the arguments as part of command=%r." % (command,))
        self.source_directory = source_directory
        self.script = script
        self.command = command
        self.arguments = arguments if arguments is not None else []
        self.run_config = copy.copy(run_config) if run_config is not None else RunConfiguration()
        self._resume_from = resume_from
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config
        if run_config is None or max_run_duration_seconds != MAX_DURATION_SECONDS_DEFAULT:
            self.run_config.max_run_duration_seconds = max_run_duration_seconds
        if distributed_job_config is not None:
            _distribute(self.run_config, distributed_job_config)

    @property
    def identity(self) -> str:
        """A text that names the configuration in logs."""
        return "ScriptRunConfig(%s)" % (self.script or self.run_config.script or self.command)

    def _job(self, **overrides: Any) -> Job:
        """The job this asks for, its values checked as far as they can be without the workspace.

        Raises:
            NotOffered: ``submit`` was given an override, which v1 has for estimators only.
        """
        refuse_unknown("Experiment.submit", overrides)
        config = copy.copy(self.run_config)
        config.command = self.command or ("" if self.script else config.command)
        config.script = None if config.command else self.script or config.script
        given: Any = self.arguments or config.arguments
        more = resume_arguments(self._resume_from)
        config.arguments = given if not more else [*(shlex.split(given) if isinstance(given, str) else given), *more]
        return job_of(config, self.source_directory, script_argument="script")

    def __repr__(self) -> str:
        return "ScriptRunConfig(source_directory=%r, script=%r)" % (self.source_directory, self.script)


def _check_type(argument: str, value: Any, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise UserErrorException("%s=%r is no %s." % (argument, value, kind.__name__))


def _distribute(config: RunConfiguration, wanted: Any) -> None:
    """Set what a distributed job's configuration asks for.

    Raises:
        UserErrorException: it is no such configuration.
    """
    if isinstance(wanted, MpiConfiguration):
        config.mpi, config.communicator, config.node_count = wanted, "Mpi", wanted.node_count
    elif isinstance(wanted, PyTorchConfiguration):
        config.pytorch, config.framework = wanted, "PyTorch"
        config.communicator, config.node_count = wanted.communication_backend, wanted.node_count
    elif isinstance(wanted, TensorflowConfiguration):
        config.tensorflow, config.framework = wanted, "TensorFlow"
        config.communicator, config.node_count = "ParameterServer", wanted.worker_count
    else:
        raise UserErrorException(
            "distributed_job_config=%r must be an MpiConfiguration, a PyTorchConfiguration or a "
            "TensorflowConfiguration." % (wanted,)
        )
