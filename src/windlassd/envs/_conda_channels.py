"""Conda's channels: their addresses by the user's own ``.condarc``, and which may be shown.

A channel's name stands for ``<channel_alias>/<name>``. ``defaults`` and its like are Anaconda's, whose terms ask many
teams for a licence: they are read as conda-forge, unless ``.condarc`` says where they are (``default_channels``,
``custom_channels``).
"""

from __future__ import annotations

import functools
import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from windlass import settings
from windlassd.envs import _condarc
from windlassd.envs.base import EnvironmentFailed

FORGE = "conda-forge"
_LICENSED = ("defaults", "anaconda", "main", "free", "r", "msys2", "pro", "pkgs/main", "pkgs/free", "pkgs/r")
_USERINFO = re.compile(r"(?<=://)([^/\s@'\"]+)@")
_TOKEN = re.compile(r"/t/([^/\s]+)(?=/|\Z)")
_VARIABLES = ("CONDA_CHANNEL_ALIAS", "CONDA_CHANNELS", "CONDA_DEFAULT_CHANNELS", "CONDA_SSL_VERIFY",
              "CONDA_CHANNEL_PRIORITY")  # fmt: skip
_SCHEMES = ("https", "http", "file", "s3", "gcs", "oci")
_PRIORITIES = ("strict", "flexible", "disabled")


@dataclass(frozen=True)
class ChannelSettings:
    """What the user's conda settings say of channels."""

    alias: str | None
    """None: rattler's own."""
    custom: Mapping[str, str]
    """Name → address of the folder that holds the channel."""
    defaults: tuple[str, ...]
    """What ``defaults`` stands for; empty: not said."""
    listed: tuple[str, ...]
    """For lists that name no channel."""
    verify: bool
    """False: certificates are not looked at."""
    certificates: str | None
    """File of those to trust, instead of the machine's."""
    priority: str
    overrides: tuple[tuple[str, str], ...]
    """Variables that tell the solver of another machine than this one, such as ``CONDA_OVERRIDE_CUDA``."""

    def address(self, channel: str) -> str:
        """The address of a channel, or its bare name where rattler knows the rest; without credentials."""
        if "://" in channel:
            return public(channel)
        if channel.startswith(("/", "~")):
            return "file://" + os.path.abspath(os.path.expanduser(channel))
        if channel in self.custom:
            return f"{public(self.custom[channel])}/{channel}"
        return f"{public(self.alias)}/{channel}" if self.alias else channel

    @property
    def secrets(self) -> tuple[str, ...]:
        """Credentials among the addresses."""
        found = {secret for text in self._addresses() for secret in _credentials(text)}
        return tuple(sorted(found, key=lambda text: (-len(text), text)))

    @property
    def logins(self) -> Mapping[str, Mapping[str, Mapping[str, str] | str]]:
        """Host → how to log in there, in the form of rattler's file of logins."""
        found: dict[str, Mapping[str, Mapping[str, str] | str]] = {}
        for text in self._addresses():
            host = (urlsplit(text).hostname or "") if _credentials(text) else ""
            if host and (token := _TOKEN.search(text)):
                found[host] = {"CondaToken": token.group(1)}
            elif host and (user := _USERINFO.search(text)):
                name, _, password = user.group(1).partition(":")
                found[host] = {"BasicHTTP": {"username": unquote(name), "password": unquote(password)}}
        return found

    def mask(self, text: str) -> str:
        """``text`` without credentials."""
        for secret in self.secrets:
            text = text.replace(secret, "****")
        return _TOKEN.sub("/t/****", _USERINFO.sub("****@", text))

    def _addresses(self) -> Iterator[str]:
        yield from (text for text in (self.alias, *self.custom.values(), *self.defaults, *self.listed) if text)


@dataclass(frozen=True)
class Channels:
    """The channels of one request."""

    addresses: tuple[str, ...]
    """Without credentials, the first wins."""
    notes: tuple[str, ...]


def channels(asked: Sequence[str], own: ChannelSettings) -> Channels:
    """The channels to search: ``asked``, else those of the settings, else conda-forge.

    Raises:
        EnvironmentFailed: one of ``asked`` holds credentials, or stands for nothing.
    """
    for channel in asked:
        refuse(channel)
    addresses: dict[str, None] = {}
    instead: dict[str, None] = {}
    for channel in (text.strip() for text in asked or own.listed or (FORGE,)):
        if channel in ("nodefaults", ""):
            continue
        if channel == "defaults" and own.defaults:
            addresses.update(dict.fromkeys(map(own.address, own.defaults)))
        elif channel in _LICENSED and channel not in own.custom:
            instead[channel] = None
            addresses[own.address(FORGE)] = None
        else:
            addresses[own.address(channel)] = None
    notes = []
    if instead:
        notes.append(
            f"Channel {', '.join(instead)}: read as {FORGE}, since Anaconda's own channels need a licence in many "
            "teams. To use them, name them in default_channels or custom_channels of ~/.condarc where the server runs."
        )
    return Channels(tuple(addresses) or (own.address(FORGE),), tuple(notes))


def refuse(channel: str) -> None:
    """Raise EnvironmentFailed for a channel with credentials, or one that is no name, address or absolute path."""
    if _USERINFO.search(channel) or _TOKEN.search(channel):
        shown = _TOKEN.sub("/t/****", _USERINFO.sub("****@", channel))
        raise EnvironmentFailed(
            f"The channel {shown!r} holds credentials, which would be written into the run's record.",
            "Put them into ~/.netrc, or the whole address into custom_channels or channel_alias of ~/.condarc, of the "
            "user who runs the server, and leave them out here.",
        )
    scheme, there, place = channel.partition("://")
    strange = there and (scheme not in _SCHEMES or not place.strip("/"))
    if strange or channel == "local" or channel.startswith(".") or re.search(r"\s", channel.strip()):
        raise EnvironmentFailed(
            f"The channel {channel!r} is not one that the server can find.",
            "Name a channel such as 'conda-forge', its address, or an absolute path of the machine of the server.",
        )


def public(address: str) -> str:
    """The address without credentials."""
    return _TOKEN.sub("", _USERINFO.sub("", address)).rstrip("/")


def channel_settings() -> ChannelSettings:
    """The settings in force now: conda's files, then its variables.

    Raises:
        EnvironmentFailed: a file cannot be read.
    """
    env = settings.child_environment()
    states = tuple(_states(env))
    overrides = tuple(sorted((name, value) for name, value in env.items() if name.startswith("CONDA_OVERRIDE_")))
    return _settings(states, tuple(env.get(name, "") for name in _VARIABLES), overrides)


def _states(env: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
    user = os.path.expanduser("~")
    config = env.get("XDG_CONFIG_HOME") or os.path.join(user, ".config")
    folders = ("/etc/conda", os.path.join(config, "conda"), os.path.join(user, ".conda"), user)
    for path in (*(os.path.join(folder, ".condarc") for folder in folders), env.get("CONDARC", "")):
        try:
            state = os.stat(path)
        except OSError:
            continue
        yield path, state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=8)
def _settings(
    files: tuple[tuple[str, int, int], ...], variables: tuple[str, ...], overrides: tuple[tuple[str, str], ...]
) -> ChannelSettings:
    values: dict[str, Any] = {}
    for path, _, _ in files:
        values.update(_read(path))
    for name, text in zip(_VARIABLES, variables, strict=True):
        if text:
            values[name.removeprefix("CONDA_").lower()] = text
    verify = values.get("ssl_verify", True)
    priority = str(values.get("channel_priority", "flexible")).lower()
    custom = values.get("custom_channels") or {}
    return ChannelSettings(
        alias=str(values["channel_alias"]) if values.get("channel_alias") else None,
        custom={str(name): str(place) for name, place in custom.items()} if isinstance(custom, dict) else {},
        defaults=tuple(_texts(values.get("default_channels"))),
        listed=tuple(_texts(values.get("channels"))),
        verify=str(verify).lower() not in ("false", "no", "0"),
        certificates=verify if isinstance(verify, str) and os.path.isabs(verify) else None,
        priority=priority if priority in _PRIORITIES else "flexible",
        overrides=overrides,
    )


def _read(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as f:
            text = string.Template(f.read()).safe_substitute(settings.child_environment())  # as conda does
        return _condarc.load(text)
    except (OSError, UnicodeDecodeError, _condarc.Unreadable) as e:
        said = str(e) if isinstance(e, _condarc.Unreadable) else type(e).__name__
        raise EnvironmentFailed(f"conda's settings file {path} cannot be read ({said}).", "Mend or remove it.") from e


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [part for part in re.split(r"[,\s]+", value) if part]
    return [str(item) for item in value] if isinstance(value, list) else []


def _credentials(address: str) -> Sequence[str]:
    users = [text.partition(":")[2] or text for text in _USERINFO.findall(address)]
    return [*users, *map(unquote, users), *_TOKEN.findall(address)]
