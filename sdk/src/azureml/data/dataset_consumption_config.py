"""v1's ``azureml.data.dataset_consumption_config``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.dataset_consumption_config import DatasetConsumptionConfig

__all__ = ["DatasetConsumptionConfig"]
__getattr__ = absent_names(__name__)
