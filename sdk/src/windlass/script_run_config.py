"""``ScriptRunConfig``: a script with its target and environment; v1's ``azureml.core.ScriptRunConfig``."""

from __future__ import annotations

from typing import Any, List, Optional, Union

from windlass._job import Job, argument_text, duration, folder_path, script_path, target_name
from windlass._not_offered import AbsentProperty, refuse_options
from windlass.environment import Environment, environment_spec, variables
from windlass.errors import UserErrorException
from windlass.specs.environment import EnvironmentSpec

MAX_DURATION_SECONDS_DEFAULT = 2592000
"""Thirty days, as in v1."""


class ScriptRunConfig:
    """A script to run.

    Args:
        source_directory: Folder with the script; its files are sent to the job.
        script: The script, relative to ``source_directory``.
        arguments: Its arguments: a list, or text that is split as a shell would.
        run_config: Not offered yet.
        compute_target: A ComputeTarget or its name; None is this machine.
        environment: The job's environment; None is a bare one.
        distributed_job_config: Not offered yet.
        resume_from: Not offered yet.
        max_run_duration_seconds: After this the run is stopped.
        command: Not offered yet.
        docker_runtime_config: Not offered yet.
    """

    def __init__(
        self, source_directory: str, script: "Optional[str]" = None, arguments: "Union[List[Any], str, None]" = None,
        run_config: Any = None, compute_target: Any = None, environment: "Optional[Environment]" = None,
        distributed_job_config: Any = None, resume_from: Any = None,
        max_run_duration_seconds: "Optional[int]" = MAX_DURATION_SECONDS_DEFAULT, command: Any = None,
        docker_runtime_config: Any = None,
    ) -> None:  # fmt: skip
        refuse_options("ScriptRunConfig", {
            "run_config": (run_config, None, "Give compute_target and environment here."),
            "distributed_job_config": (distributed_job_config, None, "Run on one node with one process."),
            "resume_from": (resume_from, None, "Pass the path of the earlier outputs in arguments."),
            "command": (command, None, "Give script and arguments."),
            "docker_runtime_config": (docker_runtime_config, None, "Environments are built without Docker."),
        })  # fmt: skip
        if environment is not None and not isinstance(environment, Environment):
            raise UserErrorException("environment=%r is no Environment." % (environment,))
        self.source_directory = source_directory
        self.script = script
        self.arguments = arguments if arguments is not None else []
        self.compute_target = compute_target
        self.environment = environment
        self.max_run_duration_seconds = max_run_duration_seconds

    command = AbsentProperty("Give script and arguments.")
    identity = AbsentProperty("Compare what you gave it.")
    run_config = AbsentProperty("Set compute_target, environment and arguments on the ScriptRunConfig.")

    def _job(self) -> Job:
        """The job this asks for, its values checked as far as they can be without the workspace."""
        environment = self.environment
        return Job(
            source_directory=folder_path(self.source_directory),
            script=script_path("script", self.script),
            script_argument="script",
            arguments=_arguments(self.arguments),
            target=target_name(self.compute_target),
            environment=environment_spec(environment) if environment is not None else EnvironmentSpec(),
            environment_variables=variables(
                "environment.environment_variables", environment.environment_variables if environment else None
            ),
            max_run_duration_s=duration("max_run_duration_seconds", self.max_run_duration_seconds),
        )

    def __repr__(self) -> str:
        return "ScriptRunConfig(source_directory=%r, script=%r)" % (self.source_directory, self.script)


def _arguments(given: Any) -> "tuple[str, ...]":
    if isinstance(given, str):
        import shlex

        return tuple(shlex.split(given))
    if not isinstance(given, (list, tuple)):
        raise UserErrorException("arguments must be a list such as ['--epochs', 10], not %r." % (given,))
    return tuple(argument_text("arguments[%d]" % place, value) for place, value in enumerate(given))
