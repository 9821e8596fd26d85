"""v1's ``azureml.data.file_dataset``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.abstract_dataset import AbstractDataset
from windlass.errors import AzureMLException, UserErrorException
from windlass.file_dataset import FileDataset

__all__ = ["AbstractDataset", "AzureMLException", "FileDataset", "UserErrorException"]
__getattr__ = absent_names(__name__)
