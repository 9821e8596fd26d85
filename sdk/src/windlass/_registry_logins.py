"""Passwords of container registries on their way to the server, which keeps them; they stand nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Iterable

if TYPE_CHECKING:
    from windlass._transport.client import Client


@dataclass(frozen=True)
class RegistryLogin:
    """Who may pull from a registry."""

    address: str
    username: str
    password: str = field(repr=False)


def send(client: "Client", logins: "Iterable[RegistryLogin]") -> None:
    """Hand the logins to the server, which keeps them in a file that only its user can read."""
    for login in logins:
        client.put(
            "/v1/registry-logins",
            {"address": login.address, "username": login.username, "password": login.password},
        )
