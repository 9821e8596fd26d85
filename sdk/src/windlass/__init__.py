"""Windlass: run training scripts on your own machines, with the API of the Azure ML SDK v1.

Everything is loaded on first use, so that ``import windlass`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers know; importing typing for it would cost more than the rest of this file
if TYPE_CHECKING:
    from typing import Any, List

    from windlass._diagnostic_log import diagnostic_log
    from windlass._environment_sections import ContainerRegistry
    from windlass._replay import replay_offline_run
    from windlass._runconfig_parts import (
        DockerConfiguration,
        MpiConfiguration,
        PyTorchConfiguration,
        TensorflowConfiguration,
    )
    from windlass.compute import AmlCompute, ComputeTarget
    from windlass.conda_dependencies import CondaDependencies
    from windlass.data_reference import DataReference
    from windlass.dataset import Dataset
    from windlass.datastore import Datastore
    from windlass.dnn import Chainer, PyTorch, TensorFlow
    from windlass.environment import Environment
    from windlass.estimator import Estimator
    from windlass.experiment import Experiment
    from windlass.file_dataset import FileDataset
    from windlass.model import Model
    from windlass.output_dataset_config import OutputFileDatasetConfig
    from windlass.run import Run, get_run
    from windlass.runconfig import RunConfiguration
    from windlass.script_run_config import ScriptRunConfig
    from windlass.sklearn_estimator import SKLearn
    from windlass.tabular_dataset import TabularDataset
    from windlass.workspace import Workspace

__version__ = "0.1.0"
VERSION = "1.61.0"
"""The version of the Azure ML SDK whose surface is offered; ``azureml.core.VERSION``."""

_HOMES = {
    "AmlCompute": "compute",
    "Chainer": "dnn",
    "ComputeTarget": "compute",
    "CondaDependencies": "conda_dependencies",
    "ContainerRegistry": "_environment_sections",
    "DataReference": "data_reference",
    "Dataset": "dataset",
    "Datastore": "datastore",
    "DockerConfiguration": "_runconfig_parts",
    "Environment": "environment",
    "Estimator": "estimator",
    "Experiment": "experiment",
    "FileDataset": "file_dataset",
    "Model": "model",
    "MpiConfiguration": "_runconfig_parts",
    "OutputFileDatasetConfig": "output_dataset_config",
    "PyTorch": "dnn",
    "PyTorchConfiguration": "_runconfig_parts",
    "Run": "run",
    "RunConfiguration": "runconfig",
    "SKLearn": "sklearn_estimator",
    "ScriptRunConfig": "script_run_config",
    "TabularDataset": "tabular_dataset",
    "TensorFlow": "dnn",
    "TensorflowConfiguration": "_runconfig_parts",
    "Workspace": "workspace",
    "diagnostic_log": "_diagnostic_log",
    "get_run": "run",
    "replay_offline_run": "_replay",
}

__all__ = [
    "VERSION",
    "AmlCompute",
    "Chainer",
    "ComputeTarget",
    "CondaDependencies",
    "ContainerRegistry",
    "DataReference",
    "Dataset",
    "Datastore",
    "DockerConfiguration",
    "Environment",
    "Estimator",
    "Experiment",
    "FileDataset",
    "Model",
    "MpiConfiguration",
    "OutputFileDatasetConfig",
    "PyTorch",
    "PyTorchConfiguration",
    "Run",
    "RunConfiguration",
    "SKLearn",
    "ScriptRunConfig",
    "TabularDataset",
    "TensorFlow",
    "TensorflowConfiguration",
    "Workspace",
    "__version__",
    "diagnostic_log",
    "get_run",
    "replay_offline_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError("module 'windlass' has no attribute %r" % name)
    import importlib

    value = getattr(importlib.import_module("windlass." + _HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(__all__))
