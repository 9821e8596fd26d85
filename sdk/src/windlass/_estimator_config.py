"""From an estimator's constructor arguments to a run configuration; what it does not honour is refused here."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from windlass._distribution import distribution
from windlass._docker_arguments import size_bytes
from windlass._environment_sections import ContainerRegistry, image_name, is_azure_image
from windlass._job import argument_text, count
from windlass._resume import resume_arguments
from windlass._runconfig_parts import MpiConfiguration, TensorflowConfiguration
from windlass._warn import warn
from windlass.conda_dependencies import CondaDependencies, package_list
from windlass.environment import Environment
from windlass.errors import TrainingException, UserErrorException
from windlass.runconfig import RunConfiguration

_RENAMED = {
    "custom_docker_base_image": "custom_docker_image",
    "conda_dependencies_file_path": "conda_dependencies_file",
    "pip_requirements_file_path": "pip_requirements_file",
}
_DEPRECATED = {
    "distributed_backend": "distributed_training",
    "worker_count": "distributed_training=TensorflowConfiguration(worker_count=...)",
    "parameter_server_count": "distributed_training=TensorflowConfiguration(parameter_server_count=...)",
}


def fill(config: RunConfiguration, given: "Dict[str, Any]", estimator_name: str) -> None:
    """Set ``config`` to what the arguments of an estimator's constructor ask for.

    Raises:
        TrainingException: they do not fit together.
    """
    given = _without_old_names(given)
    config.script = given.get("entry_script")
    config.framework = estimator_name if estimator_name != "Estimator" else "Python"
    config.max_run_duration_seconds = given.get("max_run_duration_seconds")
    _set_target(config, given)
    _set_distribution(config, given, estimator_name)
    config.environment = _environment(given)
    if given.get("use_gpu"):
        config.environment.docker.gpu_support = True
    config.environment_variables = given.get("environment_variables") or {}
    config.docker.use_docker = bool(given.get("use_docker", True))
    _set_shared_memory(config, given.get("shm_size"))
    store = given.get("source_directory_data_store")
    if store is not None:
        config.source_directory_data_store = store if isinstance(store, str) else getattr(store, "name", str(store))


def script_values(script_params: Any, resume_from: Any) -> "List[Any]":
    """``script_params`` as a list of arguments, in order; an empty string as value makes a bare flag.

    Raises:
        UserErrorException: they are no dictionary, or a name or value is nothing that an argument can be.
    """
    if script_params is None:
        return resume_arguments(resume_from)
    if not isinstance(script_params, dict):
        raise UserErrorException(
            "script_params must be a dictionary such as {'--epochs': 10}, not %r. For a bare flag give the value ''."
            % (script_params,)
        )
    found: "List[Any]" = []
    for name, value in script_params.items():
        if not isinstance(name, str) or not name:
            raise UserErrorException("script_params has the name %r; names must be text such as '--epochs'." % (name,))
        bare = isinstance(value, str) and value == ""
        if not bare:
            argument_text("script_params[%r]" % name, value)  # here, where it has a name
        found += [name] if bare else [name, value]
    return found + resume_arguments(resume_from)


def _without_old_names(given: "Dict[str, Any]") -> "Dict[str, Any]":
    values = dict(given)
    for old, new in _RENAMED.items():
        value = values.pop(old, None)
        if value is None:
            continue
        if values.get(new) is not None:
            raise TrainingException("Give %s or its old name %s, not both." % (new, old))
        warn("%s is deprecated; use %s." % (old, new), DeprecationWarning)
        values[new] = value
    for old, new in _DEPRECATED.items():
        if values.get(old) not in (None, 1):
            warn("%s is deprecated; use %s." % (old, new), DeprecationWarning)
    return values


def _set_shared_memory(config: RunConfiguration, size: "Optional[str]") -> None:
    if size is None:
        return
    size_bytes("shm_size", size)
    config.docker.shm_size = size
    if config.environment.docker._spec("environment_definition.docker") is None:
        warn("shm_size=%r holds in containers; this job runs without one and shares the machine's memory." % (size,))


def _set_target(config: RunConfiguration, given: "Dict[str, Any]") -> None:
    target, size = given.get("compute_target"), given.get("vm_size")
    if target is not None:
        for name in ("vm_size", "vm_priority"):
            if given.get(name) is not None:
                raise TrainingException(
                    "compute_target=%r has nodes of its own size and priority; leave out %s=%r, or leave out "
                    "compute_target and a cluster is made for the run." % (target, name, given[name])
                )
        config.target = target
    elif size is not None:
        config.target = "amlcompute"
        config.amlcompute.vm_size = size
        config.amlcompute.vm_priority = given.get("vm_priority")
    elif given.get("vm_priority") is not None:
        raise TrainingException("vm_priority=%r needs vm_size, too." % (given["vm_priority"],))


def _set_distribution(config: RunConfiguration, given: "Dict[str, Any]", estimator_name: str) -> None:
    """The constructor's counts win; two different ones that somebody gave are an error."""
    wanted = distribution(given, estimator_name)
    config.node_count = _agreed("node_count", given.get("node_count", 1), wanted.nodes)
    processes = _agreed("process_count_per_node", given.get("process_count_per_node", 1), wanted.processes)
    config.mpi = MpiConfiguration(processes, config.node_count)
    config.communicator = wanted.communicator
    if processes > 1 and wanted.backend is None:
        config.communicator = "Mpi"
    workers = _agreed("worker_count", given.get("worker_count", 1), wanted.workers)
    servers = _agreed("parameter_server_count", given.get("parameter_server_count", 1), wanted.servers)
    config.tensorflow = TensorflowConfiguration(workers, servers)


def _agreed(name: str, own: Any, configured: "Optional[int]") -> int:
    value = own if configured is None or own != 1 else configured
    if configured is not None and configured != 1 and own not in (1, configured):
        raise TrainingException("%s=%r and %r in distributed_training contradict each other; give one of them." % (
            name, own, configured))  # fmt: skip
    return value if name == "parameter_server_count" and value == 0 else count(name, value)


def _environment(given: "Dict[str, Any]") -> Any:
    definition = given.get("environment_definition")
    if definition is None:
        return _made_environment(given)
    if not isinstance(definition, Environment):
        raise UserErrorException("environment_definition=%r is no Environment." % (definition,))
    names = ("conda_packages", "pip_packages", "conda_dependencies_file", "pip_requirements_file", "user_managed")
    for place, also in (
        ("add the packages to environment_definition.python.conda_dependencies", names),
        ("set the image in environment_definition.docker", ("custom_docker_image", "image_registry_details")),
    ):
        more = [name for name in also if given.get(name)]
        if more:
            raise TrainingException("environment_definition together with %s: %s." % (", ".join(more), place))
    return definition


def _set_image(made: Environment, given: "Dict[str, Any]") -> None:
    """The container that the constructor asks for.

    Raises:
        TrainingException: ``use_docker=False`` contradicts it.
        UserErrorException: the image or the registry can be none.
    """
    image, registry = given.get("custom_docker_image"), given.get("image_registry_details")
    if image is not None:
        made.docker.base_image = image_name("custom_docker_image", image)
    if registry is not None:
        if not isinstance(registry, ContainerRegistry):
            raise UserErrorException("image_registry_details=%r is no ContainerRegistry." % (registry,))
        if registry._host("image_registry_details") is not None and (image is None or is_azure_image(image)):
            raise TrainingException("image_registry_details=%r needs custom_docker_image." % (registry,))
        made.docker.base_image_registry = registry
    if given.get("use_docker", True):
        made.docker.enabled = True
    elif image is not None and not is_azure_image(image):
        raise TrainingException("use_docker=False and custom_docker_image=%r contradict each other." % (image,))


def _made_environment(given: "Dict[str, Any]") -> Environment:
    from windlass._requirements_file import read_requirements
    from windlass.environment import EnvironmentDefinition

    made = EnvironmentDefinition()
    _set_image(made, given)
    made.python.user_managed_dependencies = bool(given.get("user_managed"))
    file, requirements = given.get("conda_dependencies_file"), given.get("pip_requirements_file")
    packages = CondaDependencies(file) if file is not None else CondaDependencies()
    packages._add(
        package_list("conda_packages", given.get("conda_packages")),
        (read_requirements(requirements) if requirements is not None else [])
        + package_list("pip_packages", given.get("pip_packages")),
    )
    made.python.conda_dependencies = packages
    return made
