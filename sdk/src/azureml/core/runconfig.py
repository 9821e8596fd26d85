"""v1's ``azureml.core.runconfig``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._environment_sections import (
    DEFAULT_CPU_IMAGE,
    DEFAULT_GPU_IMAGE,
    ContainerRegistry,
    DockerEnvironment,
    DockerSection,
    PythonEnvironment,
    PythonSection,
)
from windlass._runconfig_parts import (
    AmlComputeConfiguration,
    DataReferenceConfiguration,
    DockerConfiguration,
    HistoryConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from windlass.compute import ComputeTarget
from windlass.conda_dependencies import CondaDependencies
from windlass.dataset_consumption_config import DatasetConsumptionConfig
from windlass.environment import Environment, EnvironmentDefinition
from windlass.errors import RunConfigurationException, UserErrorException
from windlass.run import Run
from windlass.runconfig import RunConfiguration

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "AmlComputeConfiguration",
    "ComputeTarget",
    "CondaDependencies",
    "ContainerRegistry",
    "DataReferenceConfiguration",
    "DatasetConsumptionConfig",
    "DockerConfiguration",
    "DockerEnvironment",
    "DockerSection",
    "Environment",
    "EnvironmentDefinition",
    "HistoryConfiguration",
    "MpiConfiguration",
    "ParallelTaskConfiguration",
    "PyTorchConfiguration",
    "PythonEnvironment",
    "PythonSection",
    "Run",
    "RunConfiguration",
    "RunConfigurationException",
    "TensorflowConfiguration",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
