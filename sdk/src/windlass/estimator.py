"""``Estimator``: train any Python script; v1's ``azureml.train.estimator.Estimator``."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from windlass._estimator_base import EstimatorBase
from windlass._not_offered import not_offered, refuse_options
from windlass.conda_dependencies import CondaDependencies
from windlass.environment import Environment

_DISTRIBUTED = "Run on one node with one process."
_IMAGES = "Name the packages in pip_packages; environments are built without Docker."
_FILES = "Give the packages as lists: pip_packages=[...], conda_packages=[...]."
_DATA = "Pass the path of the data in script_params."
_AZURE_IMAGE = "mcr.microsoft.com/azureml/"


class Estimator(EstimatorBase):
    """A training job of any framework.

    Args:
        source_directory: Folder with the script; its files are sent to the job.
        compute_target: A ComputeTarget or its name; None is this machine.
        entry_script: The script, relative to ``source_directory``.
        script_params: The script's arguments in order; the value ``''`` makes a bare flag.
        node_count: Nodes; more than one is not offered yet.
        process_count_per_node: Processes on each node; more than one is not offered yet.
        use_gpu: Says nothing by itself: GPUs are handed out when the target has any.
        use_docker: Says nothing: environments are built without Docker.
        user_managed: True: run on the interpreter that submits and install nothing.
        conda_packages: Packages in conda's syntax.
        pip_packages: Packages in pip's syntax.
        environment_variables: Variables of the job.
        environment_definition: An Environment; then no packages are given here.
        max_run_duration_seconds: After this the run is stopped.

    Raises:
        NotOffered: an argument that Windlass does not honour yet was given.
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
        environment_definition: "Optional[Environment]" = None, inputs: Any = None,
        source_directory_data_store: Any = None, shm_size: "Optional[str]" = None, resume_from: Any = None,
        max_run_duration_seconds: "Optional[int]" = None,
    ) -> None:  # fmt: skip
        refuse_options("Estimator", {
            "vm_size": (vm_size, None, "Make a cluster with AmlCompute and give it as compute_target."),
            "vm_priority": (vm_priority, None, "Make a cluster with AmlCompute and give it as compute_target."),
            "distributed_backend": (distributed_backend, None, _DISTRIBUTED),
            "distributed_training": (distributed_training, None, _DISTRIBUTED),
            "custom_docker_base_image": (_image(custom_docker_base_image), None, _IMAGES),
            "custom_docker_image": (_image(custom_docker_image), None, _IMAGES),
            "image_registry_details": (image_registry_details, None, _IMAGES),
            "conda_dependencies_file_path": (conda_dependencies_file_path, None, _FILES),
            "pip_requirements_file_path": (pip_requirements_file_path, None, _FILES),
            "conda_dependencies_file": (conda_dependencies_file, None, _FILES),
            "pip_requirements_file": (pip_requirements_file, None, _FILES),
            "inputs": (inputs, None, _DATA),
            "source_directory_data_store": (source_directory_data_store, None, _DATA),
            "shm_size": (shm_size, None, "Jobs share the memory of this machine."),
            "resume_from": (resume_from, None, _DATA),
        })  # fmt: skip
        if environment_definition is not None and (conda_packages or pip_packages or user_managed):
            raise not_offered(
                "environment_definition together with pip_packages, conda_packages or user_managed",
                "Add the packages to environment_definition.python.conda_dependencies.",
            )
        super().__init__(
            source_directory, compute_target=compute_target, entry_script=entry_script, script_params=script_params,
            node_count=node_count, process_count_per_node=process_count_per_node, use_gpu=use_gpu,
            user_managed=user_managed,
            conda_dependencies=CondaDependencies.create(pip_packages=pip_packages, conda_packages=conda_packages),
            environment_variables=environment_variables, environment_definition=environment_definition,
            max_run_duration_seconds=max_run_duration_seconds,
        )  # fmt: skip

    def __repr__(self) -> str:
        return "Estimator(source_directory=%r, entry_script=%r)" % (self._source_directory, self._entry_script)


def _image(name: "Optional[str]") -> "Optional[str]":
    """None for Microsoft's ``azureml`` base images, which are v1's default and no request."""
    return None if isinstance(name, str) and name.startswith(_AZURE_IMAGE) else name
