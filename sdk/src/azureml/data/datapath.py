"""v1's ``azureml.data.datapath``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.data_reference import DataPath, DataPathComputeBinding, DataReference

__all__ = ["DataPath", "DataPathComputeBinding", "DataReference"]
__getattr__ = absent_names(__name__)
