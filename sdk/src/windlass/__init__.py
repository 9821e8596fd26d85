"""Windlass: run training scripts on your own machines, with the API of the Azure ML SDK v1.

Everything is loaded on first use, so that ``import windlass`` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers know; importing typing for it would cost more than the rest of this file
if TYPE_CHECKING:
    from typing import Any, List

    from windlass.compute import AmlCompute, ComputeTarget
    from windlass.conda_dependencies import CondaDependencies
    from windlass.environment import Environment
    from windlass.estimator import Estimator
    from windlass.experiment import Experiment
    from windlass.model import Model
    from windlass.run import Run, get_run
    from windlass.script_run_config import ScriptRunConfig
    from windlass.workspace import Workspace

__version__ = "0.1.0"
VERSION = "1.61.0"
"""The version of the Azure ML SDK whose surface is offered; ``azureml.core.VERSION``."""

_HOMES = {
    "AmlCompute": "compute",
    "ComputeTarget": "compute",
    "CondaDependencies": "conda_dependencies",
    "Environment": "environment",
    "Estimator": "estimator",
    "Experiment": "experiment",
    "Model": "model",
    "Run": "run",
    "ScriptRunConfig": "script_run_config",
    "Workspace": "workspace",
    "get_run": "run",
}

__all__ = [
    "VERSION",
    "AmlCompute",
    "ComputeTarget",
    "CondaDependencies",
    "Environment",
    "Estimator",
    "Experiment",
    "Model",
    "Run",
    "ScriptRunConfig",
    "Workspace",
    "__version__",
    "get_run",
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
