"""v1's ``azureml.core.run``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._offline_run import _OfflineRun
from windlass.environment import Environment
from windlass.errors import (
    ActivityFailedException,
    ExperimentExecutionException,
    RunEnvironmentException,
    SnapshotException,
    UserErrorException,
)
from windlass.run import Run, get_run

__all__ = [
    "ActivityFailedException",
    "Environment",
    "ExperimentExecutionException",
    "Run",
    "RunEnvironmentException",
    "SnapshotException",
    "UserErrorException",
    "_OfflineRun",
    "get_run",
]
__getattr__ = absent_names(__name__)
