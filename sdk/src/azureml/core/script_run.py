"""v1's ``azureml.core.script_run``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import AzureMLException, UserErrorException
from windlass.run import Run
from windlass.runconfig import RunConfiguration

__all__ = ["AzureMLException", "Run", "RunConfiguration", "UserErrorException"]
__getattr__ = absent_names(__name__)
