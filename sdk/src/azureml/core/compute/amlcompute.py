"""v1's ``azureml.core.compute.amlcompute``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.compute import (
    AmlCompute,
    AmlComputeNodeStateCounts,
    AmlComputeProvisioningConfiguration,
    AmlComputeStatus,
    ComputeTarget,
    ComputeTargetProvisioningConfiguration,
    ScaleSettings,
)
from windlass.errors import ComputeTargetException

__all__ = [
    "AmlCompute",
    "AmlComputeNodeStateCounts",
    "AmlComputeProvisioningConfiguration",
    "AmlComputeStatus",
    "ComputeTarget",
    "ComputeTargetException",
    "ComputeTargetProvisioningConfiguration",
    "ScaleSettings",
]
__getattr__ = absent_names(__name__)
