"""v1's ``azureml.core.datastore``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.datastore import Datastore
from windlass.errors import UserErrorException

__all__ = ["Datastore", "UserErrorException"]
__getattr__ = absent_names(__name__)
