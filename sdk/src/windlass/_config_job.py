"""From a ``RunConfiguration`` to a ``Job``: everything in it is honoured or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from windlass._config_object import to_dictionary
from windlass._docker_arguments import Parsed, size_bytes
from windlass._environment_sections import DEFAULT_SHM_SIZE
from windlass._job import Job, argument_text, count, data_of, duration, folder_path, priority, script_path
from windlass._not_offered import not_offered
from windlass._runconfig_parts import DataReferenceConfiguration
from windlass._warn import warn
from windlass.environment import environment_spec, variables
from windlass.errors import UserErrorException
from windlass.specs.container import ContainerSpec
from windlass.specs.data import DataSpec

if TYPE_CHECKING:
    from windlass.runconfig import RunConfiguration

MADE_CLUSTER = "amlcompute"
"""v1's target of a run that gets a cluster of its own."""
_DISTRIBUTED = "Distributed training comes later: use one node with one process."
_UNOFFERED = {
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
    environment = environment_spec(config.environment)
    docker = _container(config, environment.container)
    own = dict(docker.variables)
    if config.environment.python.conda_dependencies is not None:
        own.update(config.environment.python.conda_dependencies._variables)
    own.update(variables("environment.environment_variables", config.environment.environment_variables))
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
        environment=environment,
        environment_variables=own,
        node_count=count("node_count", config.node_count),
        process_count_per_node=_processes(config),
        max_run_duration_s=duration("max_run_duration_seconds", config.max_run_duration_seconds),
        framework=config.framework,
        communicator=config.communicator,
        data=tuple(_once(data)),
        vm_size=config.amlcompute.vm_size if config.target == MADE_CLUSTER else None,
        vm_priority=config.amlcompute.vm_priority if config.target == MADE_CLUSTER else None,
        use_gpu=bool(config.environment.docker.gpu_support),
        priority=priority("priority", config.priority),
        definition=_definition(config, environment.container),
        container=docker.options,
        logins=config.environment.docker._logins(),
    )


def with_framework(job: Job, framework: str, version: "Optional[str]") -> Job:
    """``job`` with a framework added to its environment."""
    return replace(job, environment=replace(job.environment, framework=framework, framework_version=version))


def _refuse(config: "RunConfiguration") -> None:
    for name, instead in _UNOFFERED.items():
        if getattr(config, name):
            raise not_offered("run_config.%s=%r" % (name, getattr(config, name)), instead)
    config.history._check()
    if config.target == MADE_CLUSTER and not config.amlcompute.vm_size:
        raise UserErrorException(
            "The target 'amlcompute' needs run_config.amlcompute.vm_size, such as 'STANDARD_D2_V2'; or give the name "
            "of a cluster, or 'local'."
        )


def _container(config: "RunConfiguration", container: "Optional[ContainerSpec]") -> Parsed:
    """How the job's container is to run, from the environment's docker section and the run configuration's.

    Raises:
        UserErrorException: a value can be none, or two contradict each other.
        NotOffered: an argument of docker that containers here do not take.
    """
    own, shared = config.docker, config.environment.docker
    found = own._parsed("docker", shared._parsed("environment.docker"))
    sizes = {"docker.arguments --shm-size": found.options.shm_bytes} if found.options.shm_bytes else {}
    for name, size in (("docker.shm_size", own.shm_size), ("environment.docker.shm_size", shared.shm_size)):
        if size not in (None, DEFAULT_SHM_SIZE):
            sizes[name] = size_bytes(name, size)
    if len(set(sizes.values())) > 1:
        raise UserErrorException("%s differ; give one of them." % " and ".join(
            "%s (%d bytes)" % entry for entry in sizes.items()))  # fmt: skip
    if container is None and (own.arguments or shared.arguments):
        warn("docker.arguments=%r hold in containers; this job runs without one." % (own.arguments or shared.arguments))
    if container is not None:
        own._check("docker")
    return replace(found, options=replace(found.options, shm_bytes=next(iter(sizes.values()), None)))


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


def _definition(config: "RunConfiguration", container: "Optional[ContainerSpec]") -> "Dict[str, Any]":
    docker: "Mapping[str, Any]" = to_dictionary(config.docker)
    return {
        "sourceDirectoryDataStore": config.source_directory_data_store,
        "history": to_dictionary(config.history),
        "tensorflow": to_dictionary(config.tensorflow),
        "mpi": to_dictionary(config.mpi),
        "pyTorch": dict(to_dictionary(config.pytorch)),
        "docker": dict(docker, useDocker=container is not None),
        "amlCompute": dict(to_dictionary(config.amlcompute), clusterMaxNodeCount=config.node_count),
    }
