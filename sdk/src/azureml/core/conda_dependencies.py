"""v1's ``azureml.core.conda_dependencies``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass import VERSION
from windlass.conda_dependencies import CondaDependencies
from windlass.errors import UserErrorException

__all__ = ["VERSION", "CondaDependencies", "UserErrorException"]
__getattr__ = absent_names(__name__)
