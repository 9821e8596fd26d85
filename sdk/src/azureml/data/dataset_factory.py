"""v1's ``azureml.data.dataset_factory``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.data_reference import DataPath, DataReference
from windlass.dataset_factory import DataType, FileDatasetFactory, TabularDatasetFactory
from windlass.dataset_types import PromoteHeadersBehavior
from windlass.datastore import AbstractDatastore
from windlass.errors import UserErrorException

__all__ = [
    "AbstractDatastore",
    "DataPath",
    "DataReference",
    "DataType",
    "FileDatasetFactory",
    "PromoteHeadersBehavior",
    "TabularDatasetFactory",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
