"""v1's ``azureml.data``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass import VERSION
from windlass.dataset_factory import DataType
from windlass.file_dataset import FileDataset
from windlass.output_dataset_config import OutputFileDatasetConfig
from windlass.tabular_dataset import TabularDataset

__all__ = ["VERSION", "DataType", "FileDataset", "OutputFileDatasetConfig", "TabularDataset"]
__getattr__ = absent_names(__name__)
