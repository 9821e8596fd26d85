"""v1's ``azureml.core.run``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass._inputs import InputDatasets, OutputDatasets
from windlass._offline_run import _OfflineRun
from windlass.abstract_dataset import AbstractDataset
from windlass.data_reference import DataPath
from windlass.datastore import Datastore
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
    "AbstractDataset",
    "ActivityFailedException",
    "DataPath",
    "Datastore",
    "Environment",
    "ExperimentExecutionException",
    "InputDatasets",
    "OutputDatasets",
    "Run",
    "RunEnvironmentException",
    "SnapshotException",
    "UserErrorException",
    "_OfflineRun",
    "get_run",
]
__getattr__ = absent_names(__name__)
