"""From a ``RunConfiguration`` to a ``Job``: everything in it is honoured or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from windlass._config_object import to_dictionary
from windlass._environment_sections import NO_CONTAINERS
from windlass._job import Job, argument_text, count, data_of, duration, folder_path, script_path
from windlass._not_offered import not_offered
from windlass._runconfig_parts import DataReferenceConfiguration
from windlass.environment import environment_spec, variables
from windlass.errors import UserErrorException
from windlass.specs.data import DataSpec

if TYPE_CHECKING:
    from windlass.runconfig import RunConfiguration

MADE_CLUSTER = "amlcompute"
"""v1's target of a run that gets a cluster of its own."""
_DISTRIBUTED = "Distributed training comes later: use one node with one process."
_UNOFFERED = {
    "priority": "Give the cluster a priority instead.",
    "output_data": "Give an OutputFileDatasetConfig among the arguments.",
    "datacaches": "Data is used where it lies.",
    "services": "Start the service in your script.",
    "credential_passthrough": "Runs use no Azure credentials.",
    "auto_cluster_compute_specification": "Make a cluster with AmlCompute.",
}


def job_of(
    config: "RunConfiguration", source_directory: Any, *, script_argument: str, inputs: "Tuple[Any, ...]" = ()
) -> Job:
    """The job that ``config`` describes.

    Args:
        config: How it runs.
        source_directory: Its source folder.
        script_argument: What the user calls the script, for messages.
        inputs: Data beside that of the arguments.

    Raises:
        UserErrorException: a value cannot work.
        NotOffered: something is set that Windlass does not do yet.
    """
    _refuse(config)
    own = variables("environment.environment_variables", config.environment.environment_variables)
    own.update(variables("environment_variables", config.environment_variables))
    command, shell = _command(config.command)
    if command and config.script:
        raise UserErrorException("Give a script or a command, not both (script=%r)." % (config.script,))
    values, arguments = _arguments(config.arguments)
    data = data_of(values) + tuple(item for item in _config_data(config, inputs))
    return Job(
        source_directory=folder_path(source_directory),
        script="" if command else script_path(script_argument, config.script),
        script_argument=script_argument,
        arguments=arguments,
        command=command,
        shell=shell,
        target=config.target,
        environment=environment_spec(config.environment),
        environment_variables=own,
        node_count=count("node_count", config.node_count),
        process_count_per_node=_processes(config),
        max_run_duration_s=duration("max_run_duration_seconds", config.max_run_duration_seconds),
        framework=config.framework,
        communicator=config.communicator,
        data=tuple(_once(data)),
        vm_size=config.amlcompute.vm_size if config.target == MADE_CLUSTER else None,
        vm_priority=config.amlcompute.vm_priority if config.target == MADE_CLUSTER else None,
        definition=_definition(config),
    )


def with_framework(job: Job, framework: str, version: "Optional[str]") -> Job:
    """``job`` with a framework added to its environment."""
    return replace(job, environment=replace(job.environment, framework=framework, framework_version=version))


def _refuse(config: "RunConfiguration") -> None:
    for name, instead in _UNOFFERED.items():
        if getattr(config, name):
            raise not_offered("run_config.%s=%r" % (name, getattr(config, name)), instead)
    config.history._check()
    if config.docker.arguments:
        raise not_offered("docker arguments %r" % (config.docker.arguments,), NO_CONTAINERS)
    if config.target == MADE_CLUSTER and not config.amlcompute.vm_size:
        raise UserErrorException(
            "The target 'amlcompute' needs run_config.amlcompute.vm_size, such as 'STANDARD_D2_V2'; or give the name "
            "of a cluster, or 'local'."
        )


def _processes(config: "RunConfiguration") -> int:
    """Processes on each node.

    Raises:
        NotOffered: it takes more kinds of processes than one.
    """
    communicator = config.communicator.lower()
    if communicator in ("parameterserver", "ps"):
        raise not_offered("A TensorFlow job with parameter servers", _DISTRIBUTED)
    if communicator in ("mpi", "openmpi", "intelmpi"):
        return count("process_count_per_node", config.mpi.process_count_per_node)
    if communicator in ("gloo", "nccl") and config.pytorch.process_count is not None:
        return -(-count("process_count", config.pytorch.process_count) // config.node_count)
    return 1


def _command(given: Any) -> "Tuple[Tuple[str, ...], bool]":
    """(words, False) for a list, (text, True) for a text that a shell is to read, ((), False) for none."""
    if not given:
        return (), False
    if isinstance(given, str):
        return (given,), True
    if not isinstance(given, (list, tuple)):
        raise UserErrorException("command must be a list such as ['python', 'train.py'], not %r." % (given,))
    return tuple(argument_text("command[%d]" % at, value) for at, value in enumerate(given)), False


def _arguments(given: Any) -> "Tuple[List[Any], Tuple[str, ...]]":
    """(the values as given, as text)."""
    if isinstance(given, str):
        import shlex

        words = shlex.split(given)
        return [], tuple(words)
    if not isinstance(given, (list, tuple)):
        raise UserErrorException("arguments must be a list such as ['--epochs', 10], not %r." % (given,))
    return list(given), tuple(argument_text("arguments[%d]" % at, value) for at, value in enumerate(given))


def _config_data(config: "RunConfiguration", inputs: "Tuple[Any, ...]") -> "List[DataSpec]":
    found = list(data_of(inputs))
    for value in inputs:
        if not hasattr(value, "_data"):
            raise UserErrorException("inputs has %r, which is no data reference, dataset or datastore." % (value,))
    for where, entries in (("data_references", config.data_references), ("data", config.data)):
        for name, value in entries.items():
            if isinstance(value, DataReferenceConfiguration):
                found.append(value._spec(name))
            elif hasattr(value, "_data"):
                found += data_of([value])
            else:
                raise not_offered(
                    "run_config.%s[%r] of type %s" % (where, name, type(value).__name__),
                    "Give a data reference or a dataset among the arguments.",
                )
    if isinstance(config.command, (list, tuple)):
        found += data_of(config.command)
    return found


def _once(data: "Tuple[DataSpec, ...]") -> "List[DataSpec]":
    found: "List[DataSpec]" = []
    for item in data:
        if item not in found:
            found.append(item)
    return found


def _definition(config: "RunConfiguration") -> "Dict[str, Any]":
    docker: "Mapping[str, Any]" = to_dictionary(config.docker)
    return {
        "sourceDirectoryDataStore": config.source_directory_data_store,
        "history": to_dictionary(config.history),
        "tensorflow": to_dictionary(config.tensorflow),
        "mpi": to_dictionary(config.mpi),
        "pyTorch": dict(to_dictionary(config.pytorch)),
        "docker": dict(docker),
        "amlCompute": dict(to_dictionary(config.amlcompute), clusterMaxNodeCount=config.node_count),
    }
