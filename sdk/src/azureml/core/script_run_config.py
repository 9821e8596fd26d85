"""v1's ``azureml.core.script_run_config``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._runconfig_parts import (
    DockerConfiguration,
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from windlass.data_reference import DataPath, DataPathComputeBinding
from windlass.environment import EnvironmentDefinition
from windlass.errors import RunConfigurationException, UserErrorException
from windlass.runconfig import RunConfiguration
from windlass.script_run_config import ScriptRunConfig

__all__ = [
    "DataPath",
    "DataPathComputeBinding",
    "DockerConfiguration",
    "EnvironmentDefinition",
    "MpiConfiguration",
    "PyTorchConfiguration",
    "RunConfiguration",
    "RunConfigurationException",
    "ScriptRunConfig",
    "TensorflowConfiguration",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
