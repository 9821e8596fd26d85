"""``SKLearn``: v1's ``azureml.train.sklearn.SKLearn``."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from windlass._estimator_base import FrameworkEstimator, arguments
from windlass.environment import Environment


class SKLearn(FrameworkEstimator):
    """A scikit-learn training job on one node; installs ``scikit-learn`` and joblib.

    The arguments are those of ``Estimator``.
    """

    _name = "SKLearn"

    def __init__(
        self, source_directory: str, *, compute_target: Any = None, vm_size: "Optional[str]" = None,
        vm_priority: "Optional[str]" = None, entry_script: "Optional[str]" = None,
        script_params: "Optional[Dict[str, Any]]" = None, use_docker: bool = True,
        custom_docker_image: "Optional[str]" = None, image_registry_details: Any = None, user_managed: bool = False,
        conda_packages: "Optional[List[str]]" = None, pip_packages: "Optional[List[str]]" = None,
        conda_dependencies_file_path: "Optional[str]" = None, pip_requirements_file_path: "Optional[str]" = None,
        conda_dependencies_file: "Optional[str]" = None, pip_requirements_file: "Optional[str]" = None,
        environment_variables: "Optional[Dict[str, str]]" = None,
        environment_definition: "Optional[Environment]" = None, inputs: "Optional[List[Any]]" = None,
        shm_size: "Optional[str]" = None, resume_from: Any = None, max_run_duration_seconds: "Optional[int]" = None,
        framework_version: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        self._begin(arguments(locals()))
