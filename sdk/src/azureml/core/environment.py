"""v1's ``azureml.core.environment``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.conda_dependencies import CondaDependencies
from windlass.environment import DockerSection, Environment, PythonSection
from windlass.errors import AzureMLException, UserErrorException

__all__ = [
    "AzureMLException",
    "CondaDependencies",
    "DockerSection",
    "Environment",
    "PythonSection",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
