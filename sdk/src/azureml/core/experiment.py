"""v1's ``azureml.core.experiment``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._environment_sections import DEFAULT_GPU_IMAGE
from windlass.errors import UserErrorException
from windlass.experiment import Experiment, ViewType

__all__ = ["DEFAULT_GPU_IMAGE", "Experiment", "UserErrorException", "ViewType"]
__getattr__ = absent_names(__name__)
