"""v1's ``azureml.core.model``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.environment import Environment
from windlass.errors import ModelNotFoundException, RunEnvironmentException, UserErrorException
from windlass.experiment import Experiment
from windlass.model import Model
from windlass.run import get_run

__all__ = [
    "Environment",
    "Experiment",
    "Model",
    "ModelNotFoundException",
    "RunEnvironmentException",
    "UserErrorException",
    "get_run",
]
__getattr__ = absent_names(__name__)
