"""v1's authentication classes. A local workspace needs no sign-in: they are accepted and keep nothing."""

from __future__ import annotations

from typing import Any


class AbstractAuthentication:
    """Any way to sign in; nothing it is given is kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


class ArmTokenAuthentication(AbstractAuthentication):
    """v1's sign-in with an Azure token."""


class AzureCliAuthentication(AbstractAuthentication):
    """v1's sign-in of the Azure command line."""


class AzureMLTokenAuthentication(AbstractAuthentication):
    """v1's sign-in inside a run."""


class InteractiveLoginAuthentication(AbstractAuthentication):
    """v1's sign-in in a browser."""


class MsiAuthentication(AbstractAuthentication):
    """v1's sign-in as a managed identity."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """v1's sign-in as a service principal."""


class TokenAuthentication(AbstractAuthentication):
    """v1's sign-in with a token of the caller's own."""
