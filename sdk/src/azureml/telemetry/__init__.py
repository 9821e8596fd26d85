"""v1's ``azureml.telemetry``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import UserErrorException
from windlass.telemetry import set_diagnostics_collection

__all__ = ["UserErrorException", "set_diagnostics_collection"]
__getattr__ = absent_names(__name__)
