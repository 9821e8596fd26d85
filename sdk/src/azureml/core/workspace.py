"""v1's ``azureml.core.workspace``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass import VERSION
from windlass.compute import AmlCompute, ComputeTarget
from windlass.errors import UserErrorException
from windlass.model import Model
from windlass.workspace import Workspace

__all__ = ["VERSION", "AmlCompute", "ComputeTarget", "Model", "UserErrorException", "Workspace"]
__getattr__ = absent_names(__name__)
