"""v1's ``azureml.data.output_dataset_config``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.abstract_dataset import AbstractDataset
from windlass.dataset_types import PromoteHeadersBehavior
from windlass.output_dataset_config import OutputFileDatasetConfig, RegistrationConfiguration, UploadOptions

__all__ = [
    "AbstractDataset",
    "OutputFileDatasetConfig",
    "PromoteHeadersBehavior",
    "RegistrationConfiguration",
    "UploadOptions",
]
__getattr__ = absent_names(__name__)
