"""v1's ``azureml.core.model``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._environment_sections import ContainerRegistry
from windlass.dataset import Dataset
from windlass.environment import Environment
from windlass.errors import ModelNotFoundException, RunEnvironmentException, UserErrorException, WebserviceException
from windlass.experiment import Experiment
from windlass.file_dataset import FileDataset
from windlass.model import Model
from windlass.resource_configuration import ResourceConfiguration
from windlass.run import get_run
from windlass.tabular_dataset import TabularDataset

__all__ = [
    "ContainerRegistry",
    "Dataset",
    "Environment",
    "Experiment",
    "FileDataset",
    "Model",
    "ModelNotFoundException",
    "ResourceConfiguration",
    "RunEnvironmentException",
    "TabularDataset",
    "UserErrorException",
    "WebserviceException",
    "get_run",
]
__getattr__ = absent_names(__name__)
