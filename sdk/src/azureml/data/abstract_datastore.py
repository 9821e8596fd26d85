"""v1's ``azureml.data.abstract_datastore``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.datastore import AbstractDatastore

__all__ = ["AbstractDatastore"]
__getattr__ = absent_names(__name__)
