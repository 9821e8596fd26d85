"""v1's ``azureml.core.compute_target``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import ComputeTargetException, UserErrorException

__all__ = ["ComputeTargetException", "UserErrorException"]
__getattr__ = absent_names(__name__)
