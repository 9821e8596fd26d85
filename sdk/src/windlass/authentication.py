"""v1's authentication classes. A local workspace needs no sign-in: they are accepted and keep nothing."""

from __future__ import annotations

from typing import Any

from windlass._not_offered import AbsentMethod

_NO_TOKENS = "A local workspace is reached through this user's own socket, without a token: call the API of Workspace."


class AbstractAuthentication:
    """Any way to sign in; nothing it is given is kept, so that no secret is."""

    get_authentication_header = AbsentMethod(_NO_TOKENS)
    get_token = AbsentMethod(_NO_TOKENS)
    signed_session = AbsentMethod(_NO_TOKENS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __repr__(self) -> str:
        return "%s()" % type(self).__name__


class ArmTokenAuthentication(AbstractAuthentication):
    """v1's sign-in with an Azure token."""

    def update_arm_token(self, arm_access_token: str) -> None:
        """Accept v1's call: the token is not kept either."""


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
