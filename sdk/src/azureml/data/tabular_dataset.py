"""v1's ``azureml.data.tabular_dataset``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.abstract_dataset import AbstractDataset
from windlass.errors import AzureMLException, DatasetTimestampMissingError, UserErrorException
from windlass.file_dataset import FileDataset
from windlass.tabular_dataset import TabularDataset

__all__ = [
    "AbstractDataset",
    "AzureMLException",
    "DatasetTimestampMissingError",
    "FileDataset",
    "TabularDataset",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
