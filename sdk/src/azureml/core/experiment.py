"""v1's ``azureml.core.experiment``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import UserErrorException
from windlass.experiment import Experiment, ViewType

__all__ = ["Experiment", "UserErrorException", "ViewType"]
__getattr__ = absent_names(__name__)
