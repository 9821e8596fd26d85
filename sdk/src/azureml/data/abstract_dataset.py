"""v1's ``azureml.data.abstract_dataset``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.abstract_dataset import AbstractDataset
from windlass.dataset_consumption_config import DatasetConsumptionConfig
from windlass.dataset_factory import FileDatasetFactory, TabularDatasetFactory
from windlass.errors import RunEnvironmentException, UserErrorException

__all__ = [
    "AbstractDataset",
    "DatasetConsumptionConfig",
    "FileDatasetFactory",
    "RunEnvironmentException",
    "TabularDatasetFactory",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
