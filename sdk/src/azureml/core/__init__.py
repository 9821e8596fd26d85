"""v1's ``azureml.core``."""

from __future__ import annotations

import urllib.request  # noqa: F401 - v1 left it loaded, and scripts rely on that

from azureml._absent import absent_names
from windlass import VERSION
from windlass._microsoft import warn_of_microsoft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

    from windlass import (
        ComputeTarget,
        ContainerRegistry,
        Dataset,
        Datastore,
        Environment,
        Experiment,
        Model,
        Run,
        RunConfiguration,
        ScriptRunConfig,
        Workspace,
        diagnostic_log,
        get_run,
    )

__version__ = VERSION
__all__ = [
    "VERSION",
    "ComputeTarget",
    "ContainerRegistry",
    "Dataset",
    "Datastore",
    "Environment",
    "Experiment",
    "Model",
    "Run",
    "RunConfiguration",
    "ScriptRunConfig",
    "Workspace",
    "diagnostic_log",
    "get_run",
]
__getattr__ = absent_names(__name__, lazily=__all__)


def __dir__() -> "List[str]":
    return sorted({*globals(), *__all__})


warn_of_microsoft()
