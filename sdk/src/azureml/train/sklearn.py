"""v1's ``azureml.train.sklearn``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.sklearn_estimator import SKLearn

__all__ = ["SKLearn"]
__getattr__ = absent_names(__name__)
