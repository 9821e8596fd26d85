"""v1's ``azureml.core.compute``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass import VERSION
from windlass.compute import AmlCompute, ComputeTarget

__all__ = ["VERSION", "AmlCompute", "ComputeTarget"]
__getattr__ = absent_names(__name__)
