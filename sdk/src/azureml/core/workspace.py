"""v1's ``azureml.core.workspace``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass import VERSION
from windlass.compute import AmlCompute, ComputeTarget
from windlass.dataset import Dataset
from windlass.errors import ProjectSystemException, UserErrorException, WorkspaceException
from windlass.model import Model
from windlass.workspace import Workspace

__all__ = [
    "VERSION",
    "AmlCompute",
    "ComputeTarget",
    "Dataset",
    "Model",
    "ProjectSystemException",
    "UserErrorException",
    "Workspace",
    "WorkspaceException",
]
__getattr__ = absent_names(__name__)
