"""v1's ``azureml.data.dataset_error_handling``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import AzureMLException, DatasetExecutionError, DatasetValidationError, UserErrorException

__all__ = ["AzureMLException", "DatasetExecutionError", "DatasetValidationError", "UserErrorException"]
__getattr__ = absent_names(__name__)
