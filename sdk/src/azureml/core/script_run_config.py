"""v1's ``azureml.core.script_run_config``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import RunConfigurationException, UserErrorException
from windlass.script_run_config import ScriptRunConfig

__all__ = ["RunConfigurationException", "ScriptRunConfig", "UserErrorException"]
__getattr__ = absent_names(__name__)
