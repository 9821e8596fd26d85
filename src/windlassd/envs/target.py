"""What the machines are that an environment is resolved for, where they are not the one that resolves."""

from __future__ import annotations

import functools
import os
import platform as this_machine
import re
from dataclasses import dataclass

_PLATFORM = re.compile(r"linux-(?P<machine>\w+?)-(?P<libc>glibc|musl)(?P<version>\d+\.\d+)(?:\.\d+)*\Z")
_MANYLINUX = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))
"""Versions of the GNU C library that uv knows as platforms, for the machines of ``_MACHINES``."""
_MUSL = (1, 2)
"""The oldest musl whose wheels uv chooses."""
_SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64", "ppc64le": "linux-ppc64le", "s390x": "linux-s390x"}
_MACHINES = ("x86_64", "aarch64")


@dataclass(frozen=True)
class Target:
    """Machines by what decides which packages run there. Equal targets share locks."""

    platform: str
    """Such as ``linux-x86_64-glibc2.36``."""
    pythons: tuple[tuple[str, str], ...] = ()
    """(``major.minor.micro``, path) of the interpreters there."""
    gpus: bool = False
    """True when they have NVIDIA GPUs."""

    @property
    def machine(self) -> str | None:
        """Such as ``aarch64``; None for a platform that is not known here."""
        found = _PLATFORM.match(self.platform)
        return found["machine"] if found else None

    @property
    def glibc(self) -> str | None:
        """Version of the GNU C library; None where it is another one."""
        found = _PLATFORM.match(self.platform)
        return found["version"] if found and found["libc"] == "glibc" else None

    @property
    def uv_platform(self) -> str | None:
        """uv's name of the platform, or of the next older one that it knows; None when what it chose might not run."""
        found = _PLATFORM.match(self.platform)
        if found is None or found["machine"] not in _MACHINES:
            return None
        if found["libc"] == "musl":
            return f"{found['machine']}-unknown-linux-musl" if numbers(found["version"]) >= _MUSL else None
        return manylinux(found["machine"], found["version"]) if numbers(found["version"]) >= _MANYLINUX[0] else None

    @property
    def subdir(self) -> str | None:
        """conda's name of the platform; None where conda has none, or its packages would not run."""
        return _SUBDIRS.get(self.machine or "") if self.glibc else None


def manylinux(machine: str, glibc: str) -> str:
    """uv's name of the platform with that C library, or with the next older one that it knows, else with the oldest."""
    major, minor = max((known for known in _MANYLINUX if known <= numbers(glibc)), default=_MANYLINUX[0])
    return f"{machine}-manylinux_{major}_{minor}"


@functools.lru_cache(maxsize=1)
def platform_name() -> str:
    """This machine's, such as ``linux-x86_64-glibc2.36``: what decides which wheels fit."""
    libc = (os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None) or "libc"
    return f"linux-{this_machine.machine()}-{libc.replace(' ', '')}"


def runs_on(made_for: str, here: str) -> bool:
    """Whether what was chosen for the platform ``made_for`` runs on ``here``, whose C library may be newer."""
    wanted, found = _PLATFORM.match(made_for), _PLATFORM.match(here)
    if made_for == here or wanted is None or found is None:
        return made_for == here
    same = (wanted["machine"], wanted["libc"]) == (found["machine"], found["libc"])
    return same and numbers(wanted["version"]) <= numbers(found["version"])


def numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2])
