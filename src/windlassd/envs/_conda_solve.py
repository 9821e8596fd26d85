"""Asking rattler, in a process of its own: solutions, names, installs; failures in our words."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from windlass import settings
from windlassd.envs._conda_channels import Channels, ChannelSettings
from windlassd.envs._conda_errors import died, failure
from windlassd.envs._conda_split import CondaEntry, pypi_name
from windlassd.envs._layout import read_json
from windlassd.envs._process import memory_file, run
from windlassd.envs._requirements import requirement_name
from windlassd.envs.base import CONDA, Work
from windlassd.envs.target import Target

_WORKER = (sys.executable, "-I", "-m", "windlassd.envs._conda_worker")
_NICE = 5
ASSUMED_CUDA = "12.0"
"""What the driver of a node with a GPU is taken for, unless CONDA_OVERRIDE_CUDA says otherwise."""
_AUTH = "RATTLER_AUTH_FILE"
_DROPPED = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL")


@dataclass(frozen=True)
class CondaRecord:
    """A package of a solution."""

    name: str
    version: str
    build: str
    url: str
    """Without credentials."""
    hash: str
    """``sha256:…``."""
    python: bool
    """True when Python packages are in it."""

    @property
    def line(self) -> str:
        """As it stands in a lock."""
        return f"{CONDA}{self.url} --hash={self.hash}"


@dataclass(frozen=True)
class Solution:
    """The packages of a prefix."""

    records: tuple[CondaRecord, ...]

    @property
    def python(self) -> str:
        """The version of its Python."""
        return next(record.version for record in self.records if record.name == "python")

    @property
    def provided(self) -> tuple[str, ...]:
        """PyPI's normalized names of the Python packages in it."""
        return tuple(sorted({requirement_name(pypi_name(record.name)) for record in self.records if record.python}))


class Rattler:
    """Orders to the worker.

    Args:
        cache: The folder for downloaded packages and what channels have; on the environments' file system.
    """

    def __init__(self, cache: str) -> None:
        self._cache = cache

    def solve(
        self,
        specs: Sequence[CondaEntry],
        limits: Sequence[CondaEntry],
        channels: Channels,
        own: ChannelSettings,
        work: Work,
        *,
        others: bool = False,
        glibc: str | None = None,
        target: Target | None = None,
    ) -> Sequence[Solution]:
        """What satisfies ``specs``, with the newest Python; with ``others`` also with each older one.

        ``glibc`` is the version of the C library where it will run, None: this machine's; ``target`` the machines where
        that is, if they are others.

        Raises:
            EnvironmentFailed: nothing does; names the package.
        """
        order = {
            "task": "solve", "channels": channels.addresses, "others": others,
            "specs": [_as_order(entry, own) for entry in specs], "limits": [_as_order(entry, own) for entry in limits],
            "machine": _machine(target),
        }  # fmt: skip
        asked = [entry.text for entry in (*specs, *limits)]
        answer = self._asked(order, own, work, channels, asked, {"CONDA_OVERRIDE_GLIBC": glibc} if glibc else {})
        return [Solution(tuple(CondaRecord(**values) for values in solution)) for solution in answer["solutions"]]

    def known(
        self,
        names: Sequence[str],
        channels: Channels,
        own: ChannelSettings,
        work: Work,
        target: Target | None = None,
    ) -> frozenset[str]:
        """Those of ``names`` that the channels have, for this machine or for ``target``."""
        order = {
            "task": "names", "channels": channels.addresses, "names": list(names), "machine": _machine(target),
        }  # fmt: skip
        return frozenset(self._asked(order, own, work, channels)["known"])

    def install(self, lines: Sequence[str], prefix: str, final: str, own: ChannelSettings, work: Work) -> Sequence[str]:
        """Link the packages of a lock's lines into ``prefix``, for use at ``final``.

        Returns:
            Names of packages with a script that they would run after being linked; none is run.
        """
        packages = [dict(zip(("url", "hash"), _parts(line), strict=True)) for line in lines]
        order = {"task": "install", "packages": packages, "prefix": prefix, "final": final}
        return list(self._asked(order, own, work, None)["scripts"])

    def _asked(
        self,
        order: Mapping[str, Any],
        own: ChannelSettings,
        work: Work,
        channels: Channels | None,
        asked: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Mapping[str, Any]:
        whole = {**order, "cache": self._cache, "verify": own.verify, "priority": own.priority}
        env = {**settings.child_environment(_DROPPED), **variables}
        with memory_file(json.dumps(whole)) as file, memory_file(_logins(own, env)) as logins:
            env |= {_AUTH: logins.path} if own.logins else {}
            env |= {"SSL_CERT_FILE": own.certificates} if own.certificates else {}
            done = run(
                [*_WORKER, file.path], env, work, files=(file, logins), nice=_NICE,
                on_line=lambda line: work.log(own.mask(line)),
            )  # fmt: skip
        if done.code != 0:
            raise died(done.code, own.mask(done.err))
        answer: Mapping[str, Any] = json.loads(done.out)
        if failed := answer.get("failed"):
            raise failure({**failed, "text": own.mask(failed["text"])}, channels, asked)
        return answer


def _machine(target: Target | None) -> Mapping[str, str | None] | None:
    """What the solver is told of other machines; of a GPU's driver only that it is there is known."""
    if target is None:
        return None
    cuda = settings.child_environment().get("CONDA_OVERRIDE_CUDA") or ASSUMED_CUDA
    return {
        "subdir": target.subdir, "name": target.machine, "glibc": target.glibc, "cuda": cuda if target.gpus else None,
    }  # fmt: skip


def conda_lines(requirements: Sequence[str]) -> Sequence[str]:
    """Those lines of a lock that are conda packages."""
    return [line for line in requirements if line.startswith(CONDA)]


def _parts(line: str) -> tuple[str, str]:
    url, _, digest = line.removeprefix(CONDA).partition(" --hash=")
    return url, digest


def _logins(own: ChannelSettings, env: Mapping[str, str]) -> str:
    """The text of rattler's file of logins: the user's own with those of conda's settings."""
    return json.dumps({**own.logins, **(read_json(env.get(_AUTH, "")) or {})})


def _as_order(entry: CondaEntry, own: ChannelSettings) -> Mapping[str, str | None]:
    channel = own.address(entry.channel) if entry.channel else None
    return {"text": entry.text, "match": entry.match, "channel": channel}
