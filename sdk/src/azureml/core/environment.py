"""v1's ``azureml.core.environment``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._environment_registry import DockerImageDetails, ImageBuildDetails
from windlass._environment_sections import (
    DEFAULT_CPU_IMAGE,
    DEFAULT_GPU_IMAGE,
    ContainerRegistry,
    DockerBuildContext,
    DockerEnvironment,
    DockerImagePlatform,
    DockerSection,
    PythonEnvironment,
    PythonSection,
)
from windlass.conda_dependencies import CondaDependencies
from windlass.environment import Environment, EnvironmentReference
from windlass.errors import AzureMLException, UserErrorException

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "AzureMLException",
    "CondaDependencies",
    "ContainerRegistry",
    "DockerBuildContext",
    "DockerEnvironment",
    "DockerImageDetails",
    "DockerImagePlatform",
    "DockerSection",
    "Environment",
    "EnvironmentReference",
    "ImageBuildDetails",
    "PythonEnvironment",
    "PythonSection",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
