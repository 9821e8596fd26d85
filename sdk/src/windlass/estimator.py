"""``Estimator``: train any Python script; v1's ``azureml.train.estimator.Estimator``."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from windlass._estimator_base import MMLBaseEstimator, arguments
from windlass.environment import Environment


class Estimator(MMLBaseEstimator):
    """A training job of any framework.

    Args:
        source_directory: Folder with the script; its files are sent to the job.
        compute_target: A ComputeTarget or its name; None is this machine, or with ``vm_size`` a cluster of its own.
        vm_size: Size of the nodes of the cluster that is made for the run.
        vm_priority: ``dedicated`` or ``lowpriority``, of that cluster.
        entry_script: The script, relative to ``source_directory``.
        script_params: The script's arguments in order; the value ``''`` makes a bare flag.
        node_count: Nodes; more than one comes later.
        process_count_per_node: Processes on each node; more than one comes later.
        distributed_backend: Deprecated; ``mpi``.
        distributed_training: How the processes talk; one node with one process for now.
        use_gpu: GPUs are handed out when the target has any, in any case; with True the run's record says where it has
            none.
        use_docker: Asks for nothing by itself; False contradicts ``custom_docker_image``.
        custom_docker_base_image: Deprecated; ``custom_docker_image``.
        custom_docker_image: The job runs in a container of this image, with its packages made in it. Microsoft's
            ``azureml`` images, v1's default, ask for no container.
        image_registry_details: A ContainerRegistry: where that image is pulled from.
        user_managed: True: run on the interpreter that submits and install nothing.
        conda_packages: Packages in conda's syntax.
        pip_packages: Packages in pip's syntax.
        conda_dependencies_file_path: Deprecated; ``conda_dependencies_file``.
        pip_requirements_file_path: Deprecated; ``pip_requirements_file``.
        conda_dependencies_file: A conda environment file; the lists are added to it.
        pip_requirements_file: A requirements file; the lists are added to it.
        environment_variables: Variables of the job.
        environment_definition: An Environment; then no packages are given here.
        inputs: Data references and datasets that no argument names.
        source_directory_data_store: Recorded; the source folder is kept in the workspace's own store.
        shm_size: Holds in containers; elsewhere a warning says so.
        resume_from: Data of an earlier run; its path is passed as ``--resume-from``.
        max_run_duration_seconds: After this the run is stopped.

    Raises:
        TrainingException: arguments do not fit together.
        NotOffered: an argument asks for what Windlass does not do yet.
    """

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
        max_run_duration_seconds: "Optional[int]" = None,
    ) -> None:  # fmt: skip
        self._begin(arguments(locals()))
