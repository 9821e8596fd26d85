"""v1's ``azureml.train.estimator``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.estimator import Estimator

__all__ = ["Estimator"]
__getattr__ = absent_names(__name__)
