"""v1's ``azureml.core.container_registry``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._environment_sections import ContainerRegistry

__all__ = ["ContainerRegistry"]
__getattr__ = absent_names(__name__)
