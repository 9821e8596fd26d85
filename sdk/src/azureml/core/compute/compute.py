"""v1's ``azureml.core.compute.compute``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.compute import ComputeTarget, ComputeTargetProvisioningConfiguration
from windlass.errors import ComputeTargetException, UserErrorException

__all__ = ["ComputeTarget", "ComputeTargetException", "ComputeTargetProvisioningConfiguration", "UserErrorException"]
__getattr__ = absent_names(__name__)
