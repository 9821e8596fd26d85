"""Who may pull from and push to container registries: a file that only the server's user can read.

Passwords stand here and nowhere else: not in specs, locks, keys, logs or images.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass.errors import UserErrorException
from windlassd.envs._flock import held
from windlassd.envs._layout import read_json, sync_folder

_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d+)?\Z")
_DEFAULT = "docker.io"
_Kept = dict[str, list[str]]
"""Host → name and password."""


@dataclass(frozen=True)
class RegistryLogin:
    """A login at one registry."""

    address: str
    username: str
    password: str = field(repr=False)


class RegistryLogins:
    """The logins in one file; processes that share it see each other's.

    Args:
        path: Of the file; it and its folder are made with the first login.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def put(self, address: object, username: object, password: object) -> None:
        """Keep a login, in place of the one that the registry had.

        Raises:
            UserErrorException: one of them is no text, or the address is none.
        """
        if not isinstance(username, str) or not username or not isinstance(password, str) or not password:
            raise UserErrorException("A registry login has a username and a password, both text and neither empty.")
        host = registry_host(address)
        with self._held():
            self._write({**self._read(), host: [username, password]})

    def delete(self, address: object) -> None:
        """Forget the login of that registry.

        Raises:
            UserErrorException: there is none.
        """
        host = registry_host(address)
        with self._held():
            kept = self._read()
            if host not in kept:
                raise UserErrorException(
                    f"There is no login for the registry {host!r}. Kept are: {', '.join(sorted(kept)) or 'none'}."
                )
            del kept[host]
            self._write(kept)

    def list(self) -> Sequence[RegistryLogin]:
        """All of them by address."""
        return [RegistryLogin(host, *values) for host, values in sorted(self._read().items())]

    def find(self, address: str, username: str | None = None) -> RegistryLogin | None:
        """The login for the registry at ``address``; with ``username`` only one of that name."""
        values = self._read().get(registry_host(address))
        return RegistryLogin(address, *values) if values and username in (None, values[0]) else None

    def header(self, address: str, username: str | None = None) -> str | None:
        """What proves to the engine that we may use the registry: our login, else Docker's own; None without any."""
        if login := self.find(address, username):
            return _encoded({"username": login.username, "password": login.password, "serveraddress": address})
        auth: Any = importlib.import_module("docker.auth")
        try:
            known = auth.load_config().resolve_authconfig(address)
        except importlib.import_module("docker.errors").DockerException:
            return None  # its helper program fails; the registry's answer tells the rest
        return _encoded(known) if known else None

    def config_header(self) -> str:
        """What proves to the engine, while it builds, that we may use registries: Docker's own logins, and ours."""
        auth: Any = importlib.import_module("docker.auth")
        try:
            known = dict(auth.load_config().get_all_credentials())
        except importlib.import_module("docker.errors").DockerException:
            known = {}
        ours = {login.address: {"username": login.username, "password": login.password} for login in self.list()}
        return _encoded({**known, **ours})

    def mask(self, text: str) -> str:
        """``text`` without the passwords."""
        for login in self.list():
            if len(login.password) > 3:
                text = text.replace(login.password, "****")
        return text

    def _held(self) -> contextlib.AbstractContextManager[None]:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        return held(f"{self._path}.lock", threading.Event(), lambda: None)

    def _read(self) -> _Kept:
        kept = read_json(self._path) or {}
        return {host: values for host, values in kept.items() if isinstance(values, list) and len(values) == 2}

    def _write(self, kept: _Kept) -> None:
        beside = f"{self._path}.{secrets.token_hex(6)}"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as f:
            json.dump(kept, f, indent=1)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, self._path)
        sync_folder(os.path.dirname(self._path))


def registry_host(address: object) -> str:
    """The host, with its port, of a registry's address; a path after it and ``https://`` are left out.

    Raises:
        UserErrorException: it is no address.
    """
    text = address if isinstance(address, str) else ""
    host = re.sub(r"\Ahttps?://", "", text.strip()).partition("/")[0].lower()
    if not _ADDRESS.match(host):
        raise UserErrorException(f"{address!r} is no address of a registry. Write it like 'registry.lab:5000'.")
    return _DEFAULT if host.endswith("." + _DEFAULT) else host  # it answers under several names


def logins_of(root: str) -> RegistryLogins:
    """Those of the home whose environments lie under ``root``."""
    return RegistryLogins(os.path.join(os.path.dirname(os.path.abspath(root)), "registry-logins.json"))


def _encoded(login: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(login).encode()).decode()
