"""v1's ``azureml.data.data_reference``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.data_reference import DataReference

__all__ = ["DataReference"]
__getattr__ = absent_names(__name__)
