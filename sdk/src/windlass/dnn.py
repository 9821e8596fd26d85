"""v1's framework estimators: ``azureml.train.dnn``.

The arguments are those of ``Estimator``; ``framework_version`` such as ``"1.13"`` asks for a version of the framework.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from windlass._distribution import Gloo, Mpi, Nccl, ParameterServer
from windlass._estimator_base import FrameworkEstimator, arguments
from windlass.environment import Environment

__all__ = ["Chainer", "Gloo", "Mpi", "Nccl", "ParameterServer", "PyTorch", "TensorFlow"]


class PyTorch(FrameworkEstimator):
    """A PyTorch training job; installs ``torch`` and numpy."""

    _name = "PyTorch"

    def __init__(
        self, source_directory: str, *, compute_target: Any = None, vm_size: "Optional[str]" = None,
        vm_priority: "Optional[str]" = None, entry_script: "Optional[str]" = None,
        script_params: "Optional[Dict[str, Any]]" = None, node_count: int = 1, process_count_per_node: int = 1,
        distributed_backend: "Optional[str]" = None, distributed_training: Any = None, use_gpu: bool = False,
        use_docker: bool = True, custom_docker_base_image: "Optional[str]" = None,
        custom_docker_image: "Optional[str]" = None, image_registry_details: Any = None, user_managed: bool = False,
        conda_packages: "Optional[List[str]]" = None, pip_packages: "Optional[List[str]]" = None,
        conda_dependencies_file_path: "Optional[str]" = None, pip_requirements_file_path: "Optional[str]" = None,
        conda_dependencies_file: "Optional[str]" = None, pip_requirements_file: "Optional[str]" = None,
        environment_variables: "Optional[Dict[str, str]]" = None,
        environment_definition: "Optional[Environment]" = None, inputs: "Optional[List[Any]]" = None,
        source_directory_data_store: Any = None, shm_size: "Optional[str]" = None, resume_from: Any = None,
        max_run_duration_seconds: "Optional[int]" = None, framework_version: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        self._begin(arguments(locals()))


class TensorFlow(FrameworkEstimator):
    """A TensorFlow training job; installs the build of TensorFlow that the machine can use."""

    _name = "TensorFlow"

    def __init__(
        self, source_directory: str, *, compute_target: Any = None, vm_size: "Optional[str]" = None,
        vm_priority: "Optional[str]" = None, entry_script: "Optional[str]" = None,
        script_params: "Optional[Dict[str, Any]]" = None, node_count: int = 1, process_count_per_node: int = 1,
        worker_count: int = 1, parameter_server_count: int = 1, distributed_backend: "Optional[str]" = None,
        distributed_training: Any = None, use_gpu: bool = False, use_docker: bool = True,
        custom_docker_base_image: "Optional[str]" = None, custom_docker_image: "Optional[str]" = None,
        image_registry_details: Any = None, user_managed: bool = False, conda_packages: "Optional[List[str]]" = None,
        pip_packages: "Optional[List[str]]" = None, conda_dependencies_file_path: "Optional[str]" = None,
        pip_requirements_file_path: "Optional[str]" = None, conda_dependencies_file: "Optional[str]" = None,
        pip_requirements_file: "Optional[str]" = None, environment_variables: "Optional[Dict[str, str]]" = None,
        environment_definition: "Optional[Environment]" = None, inputs: "Optional[List[Any]]" = None,
        source_directory_data_store: Any = None, shm_size: "Optional[str]" = None, resume_from: Any = None,
        max_run_duration_seconds: "Optional[int]" = None, framework_version: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        self._begin(arguments(locals()))


class Chainer(FrameworkEstimator):
    """A Chainer training job; installs ``chainer`` and the numpy it works with."""

    _name = "Chainer"

    def __init__(
        self, source_directory: str, *, compute_target: Any = None, vm_size: "Optional[str]" = None,
        vm_priority: "Optional[str]" = None, entry_script: "Optional[str]" = None,
        script_params: "Optional[Dict[str, Any]]" = None, node_count: int = 1, process_count_per_node: int = 1,
        distributed_backend: "Optional[str]" = None, distributed_training: Any = None, use_gpu: bool = False,
        use_docker: bool = True, custom_docker_base_image: "Optional[str]" = None,
        custom_docker_image: "Optional[str]" = None, image_registry_details: Any = None, user_managed: bool = False,
        conda_packages: "Optional[List[str]]" = None, pip_packages: "Optional[List[str]]" = None,
        conda_dependencies_file_path: "Optional[str]" = None, pip_requirements_file_path: "Optional[str]" = None,
        conda_dependencies_file: "Optional[str]" = None, pip_requirements_file: "Optional[str]" = None,
        environment_variables: "Optional[Dict[str, str]]" = None,
        environment_definition: "Optional[Environment]" = None, inputs: "Optional[List[Any]]" = None,
        source_directory_data_store: Any = None, shm_size: "Optional[str]" = None, resume_from: Any = None,
        max_run_duration_seconds: "Optional[int]" = None, framework_version: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        self._begin(arguments(locals()))
