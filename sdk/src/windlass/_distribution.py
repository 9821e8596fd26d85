"""v1's ways to say how an estimator's job is distributed."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional

from windlass._runconfig_parts import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from windlass.errors import TrainingException

BACKENDS = {
    "Estimator": ("mpi",), "PyTorch": ("mpi", "gloo", "nccl"), "TensorFlow": ("mpi", "ps"), "Chainer": ("mpi",),
}  # fmt: skip
"""What each estimator knows, as in v1."""


class _Backend:
    """What all have in common."""

    backend = ""

    def validate(self, estimator_name: str) -> None:
        """Raise TrainingException when that estimator cannot be distributed so."""
        check_backend("distributed_training", self.backend, estimator_name)

    def __repr__(self) -> str:
        return "%s()" % type(self).__name__


class Mpi(_Backend):
    """Processes that talk by MPI."""

    backend = "mpi"

    def __init__(self, process_count_per_node: int = 1) -> None:
        self.process_count_per_node = process_count_per_node


class Gloo(_Backend):
    """``torch.distributed`` with Gloo."""

    backend = "gloo"

    def __init__(self) -> None:
        pass


class Nccl(_Backend):
    """``torch.distributed`` with NCCL."""

    backend = "nccl"

    def __init__(self) -> None:
        pass


class ParameterServer(_Backend):
    """TensorFlow's workers and parameter servers."""

    backend = "ps"

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = worker_count
        self.parameter_server_count = parameter_server_count


class Distribution(NamedTuple):
    """How a job is distributed; None where nothing was said."""

    backend: Optional[str] = None
    processes: Optional[int] = None
    nodes: Optional[int] = None
    workers: Optional[int] = None
    servers: Optional[int] = None

    @property
    def communicator(self) -> str:
        """v1's name of it in a run configuration."""
        return {None: "None", "mpi": "Mpi", "ps": "ParameterServer", "gloo": "Gloo", "nccl": "Nccl"}[self.backend]


def distribution(given: "Dict[str, Any]", estimator_name: str) -> Distribution:
    """What ``distributed_training`` and the deprecated ``distributed_backend`` ask for.

    Raises:
        TrainingException: they contradict each other, or the estimator cannot be distributed so.
    """
    backend, training = given.get("distributed_backend"), given.get("distributed_training")
    if backend is not None and training is not None:
        raise TrainingException("Give distributed_training=%r or distributed_backend=%r, not both." % (
            training, backend))  # fmt: skip
    if backend is not None:
        check_backend("distributed_backend", backend, estimator_name)
        return Distribution(str(backend).lower())
    if training is None:
        return Distribution()
    found = _of(training)
    if found is None:
        raise TrainingException(
            "distributed_training=%r must be one of MpiConfiguration, TensorflowConfiguration, PyTorchConfiguration, "
            "Mpi, Gloo, Nccl, ParameterServer." % (training,)
        )
    check_backend("distributed_training", found.backend or "", estimator_name)
    return found


def check_backend(argument: str, backend: Any, estimator_name: str) -> None:
    """Raise TrainingException when the estimator does not know the backend."""
    known = BACKENDS.get(estimator_name, ())
    if not isinstance(backend, str) or backend.lower() not in known:
        raise TrainingException(
            "%s=%r: %s knows %s." % (argument, backend, estimator_name, ", ".join(known) or "no distributed training")
        )


def _of(training: Any) -> "Optional[Distribution]":
    if isinstance(training, (MpiConfiguration, Mpi)):
        nodes = getattr(training, "node_count", None)
        return Distribution("mpi", training.process_count_per_node, None if nodes == 1 else nodes)
    if isinstance(training, (TensorflowConfiguration, ParameterServer)):
        return Distribution("ps", None, None, training.worker_count, training.parameter_server_count)
    if isinstance(training, PyTorchConfiguration):
        nodes = None if training.node_count == 1 else training.node_count
        return Distribution(training.communication_backend.lower(), training.process_count, nodes)
    if isinstance(training, _Backend):
        return Distribution(training.backend)
    return None
