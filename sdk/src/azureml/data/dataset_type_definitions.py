"""v1's ``azureml.data.dataset_type_definitions``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.dataset_types import (
    FileEncoding,
    FileType,
    HistogramCompareMethod,
    PromoteHeadersBehavior,
    SkipLinesBehavior,
)

__all__ = ["FileEncoding", "FileType", "HistogramCompareMethod", "PromoteHeadersBehavior", "SkipLinesBehavior"]
__getattr__ = absent_names(__name__)
