"""v1's ``azureml.core.authentication``."""

from __future__ import annotations

from azureml._absent import absent_names
from windlass.authentication import (
    AbstractAuthentication,
    ArmTokenAuthentication,
    AzureCliAuthentication,
    AzureMLTokenAuthentication,
    InteractiveLoginAuthentication,
    MsiAuthentication,
    ServicePrincipalAuthentication,
    TokenAuthentication,
)
from windlass.errors import AuthenticationException, AzureMLException, RunEnvironmentException, UserErrorException

__all__ = [
    "AbstractAuthentication",
    "ArmTokenAuthentication",
    "AuthenticationException",
    "AzureCliAuthentication",
    "AzureMLException",
    "AzureMLTokenAuthentication",
    "InteractiveLoginAuthentication",
    "MsiAuthentication",
    "RunEnvironmentException",
    "ServicePrincipalAuthentication",
    "TokenAuthentication",
    "UserErrorException",
]
__getattr__ = absent_names(__name__)
