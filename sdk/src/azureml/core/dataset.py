"""v1's ``azureml.core.dataset``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.dataset import Dataset
from windlass.dataset_types import FileEncoding, HistogramCompareMethod, PromoteHeadersBehavior, SkipLinesBehavior

__all__ = ["Dataset", "FileEncoding", "HistogramCompareMethod", "PromoteHeadersBehavior", "SkipLinesBehavior"]
__getattr__ = absent_names(__name__)
