"""v1's ``azureml.core``."""

from __future__ import annotations

import urllib.request  # noqa: F401 - v1 left it loaded, and scripts rely on that

from azureml._absent import absent_names
from windlass import VERSION
from windlass._microsoft import warn_of_microsoft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from windlass import ComputeTarget, Environment, Experiment, Model, Run, ScriptRunConfig, Workspace, get_run

__version__ = VERSION
__all__ = [
    "VERSION",
    "ComputeTarget",
    "Environment",
    "Experiment",
    "Model",
    "Run",
    "ScriptRunConfig",
    "Workspace",
    "get_run",
]
__getattr__ = absent_names(__name__, lazily=__all__)

warn_of_microsoft()
