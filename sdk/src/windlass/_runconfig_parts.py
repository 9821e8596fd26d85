"""The parts of a ``RunConfiguration``: what v1 keeps in objects of their own."""

from __future__ import annotations

from typing import Any, List, Optional

from windlass._config_object import ConfigObject
from windlass._docker_arguments import TAKEN, Parsed, UnknownOption, parse
from windlass._environment_sections import DEFAULT_SHM_SIZE
from windlass._not_offered import AbsentProperty, not_offered
from windlass.errors import UserErrorException


class DockerConfiguration(ConfigObject):
    """How a job's container runs. The image is the environment's, so ``use_docker=True`` asks for nothing by itself.

    Args:
        use_docker: v1's switch. Set to False on a configuration it contradicts an environment with an image.
        shared_volumes: Only True: a job's folder is mounted into its container.
        arguments: Arguments of ``docker run``: limits, volumes, variables, the network.
        shm_size: Size of ``/dev/shm``, such as ``4g``. Holds in containers only.
    """

    _off = False

    def __init__(
        self, use_docker: bool = False, shared_volumes: bool = True,
        arguments: "Optional[List[str]]" = [],  # noqa: B006  v1's default; it is copied
        shm_size: "Optional[str]" = DEFAULT_SHM_SIZE,
    ) -> None:  # fmt: skip
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments: Any = arguments if isinstance(arguments, str) else list(arguments or [])
        self.shm_size = shm_size
        self._close()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._closed and name == "use_docker":
            self._off = not value
        super().__setattr__(name, value)

    def _parsed(self, where: str, before: Parsed) -> Parsed:
        """What its arguments ask for, over those of the environment; raises NotOffered for one that is not taken."""
        try:
            return parse("%s.arguments" % where, self.arguments, before)
        except UnknownOption as problem:
            raise not_offered("%s.arguments: docker's option %s" % (where, problem), TAKEN) from None

    def _check(self, where: str) -> None:
        """Raise for what contradicts a container."""
        if self._off:
            raise UserErrorException(
                "%s.use_docker=False contradicts the environment, which has an image of its own (environment.docker)."
                % where
            )
        if not self.shared_volumes:
            raise not_offered("%s.shared_volumes=False" % where, "A job's folder is mounted; leave it at True.")


class MpiConfiguration(ConfigObject):
    """An MPI job: ``node_count`` nodes with ``process_count_per_node`` processes each."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = process_count_per_node
        self.node_count = node_count
        self._close()


class TensorflowConfiguration(ConfigObject):
    """A TensorFlow job of workers and parameter servers."""

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = worker_count
        self.parameter_server_count = parameter_server_count
        self._close()


class PyTorchConfiguration(ConfigObject):
    """A ``torch.distributed`` job; ``process_count`` is over all nodes, None: one per node."""

    def __init__(
        self, communication_backend: str = "Nccl", process_count: "Optional[int]" = None, node_count: int = 1
    ) -> None:
        self.communication_backend = communication_backend
        self.process_count = process_count
        self.node_count = node_count
        self._close()


class ParallelTaskConfiguration(ConfigObject):
    """v1's parallel tasks, which are not offered."""

    def __init__(self) -> None:
        self.max_retries_per_worker = 0
        self.worker_count_per_node = 1
        self.terminal_exit_codes: "Optional[List[int]]" = None
        self._close()


class AmlComputeConfiguration(ConfigObject):
    """The cluster that is made for a run whose target is ``amlcompute``."""

    def __init__(self) -> None:
        self.vm_size: "Optional[str]" = None
        self.vm_priority: "Optional[str]" = None
        self.name: "Optional[str]" = None
        self.retain_cluster = False
        self.cluster_max_node_count: "Optional[int]" = None
        self._close()


class HistoryConfiguration(ConfigObject):
    """What is kept of a run: always its outputs, its logs and its snapshot."""

    def __init__(self) -> None:
        self.output_collection = True
        self.snapshot_project = True
        self.directories_to_watch: "Optional[List[str]]" = ["logs"]
        self._close()

    ambient_authentication = AbsentProperty("Runs use no Azure identity.")

    def _check(self) -> None:
        """Raise NotOffered for what is set otherwise."""
        for name in ("output_collection", "snapshot_project"):
            if getattr(self, name) is not True:
                raise not_offered("run_config.history.%s=%r" % (name, getattr(self, name)), "Leave it at True.")
        more = [name for name in self.directories_to_watch or [] if name.strip("./") not in ("logs", "outputs")]
        if more:
            raise not_offered(
                "run_config.history.directories_to_watch=%r" % more, "Write to ./logs or ./outputs, which are watched."
            )


class DataReferenceConfiguration(ConfigObject):
    """A data reference as it stands in a run configuration."""

    def __init__(
        self, datastore_name: "Optional[str]" = None, mode: str = "mount", path_on_datastore: "Optional[str]" = None,
        path_on_compute: "Optional[str]" = None, overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.data_store_name = datastore_name
        self.mode = mode
        self.path_on_data_store = path_on_datastore
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite
        self._close()

    def _spec(self, name: str) -> Any:
        """What it asks for, under its name in the run configuration."""
        from windlass.data_reference import reference_data, store_path

        if not self.data_store_name:
            raise UserErrorException("The data reference %r names no datastore: set data_store_name." % name)
        return reference_data(
            name, self.data_store_name, self.mode, store_path(self.path_on_data_store or ""), self.path_on_compute,
            self.overwrite,
        )  # fmt: skip
