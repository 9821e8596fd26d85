"""Logins at container registries: taken, listed without their passwords, forgotten; used when images are pulled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlassd.envs.registry_logins import RegistryLogins


class Logins:
    """May be called from any thread.

    Args:
        kept: Where they are kept.
    """

    def __init__(self, kept: RegistryLogins) -> None:
        self._kept = kept

    def list(self) -> Sequence[Mapping[str, str]]:
        """Address and username of each."""
        return [{"address": login.address, "username": login.username} for login in self._kept.list()]

    def put(self, asked: Mapping[str, Any]) -> Mapping[str, str]:
        """Keep one; returns it without the password.

        Raises:
            UserErrorException: something is missing or no text.
        """
        self._kept.put(asked.get("address"), asked.get("username"), asked.get("password"))
        return {"address": str(asked["address"]), "username": str(asked["username"])}

    def delete(self, address: str) -> None:
        """Forget that of a registry.

        Raises:
            UserErrorException: there is none.
        """
        self._kept.delete(address)
