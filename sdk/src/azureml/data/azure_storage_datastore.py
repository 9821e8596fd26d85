"""v1's ``azureml.data.azure_storage_datastore``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.data_reference import DataReference
from windlass.datastore import AbstractAzureStorageDatastore, AbstractDatastore, AzureBlobDatastore, AzureFileDatastore
from windlass.errors import UserErrorException

__all__ = [
    "AbstractAzureStorageDatastore",
    "AbstractDatastore",
    "AzureBlobDatastore",
    "AzureFileDatastore",
    "DataReference",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
