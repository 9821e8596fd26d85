"""v1's ``azureml.core.resource_configuration``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.errors import WebserviceException
from windlass.resource_configuration import ResourceConfiguration

__all__ = ["ResourceConfiguration", "WebserviceException"]
__getattr__ = absent_names(__name__)
