"""The contract of an environment builder, and what a lock is (SPEC section 5, DESIGN decision 5)."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from windlass.errors import AzureMLException, UserErrorException
from windlass.specs.environment import EnvironmentSpec

CONDA = "conda+"
"""Before the address of a conda package in a lock."""
Log = Callable[[str], None]
"""Takes one line of the build log, without its end of line."""


class EnvironmentFailed(UserErrorException):
    """The environment cannot be made. The message names the package and holds the resolver's reason.

    ``transient`` is True when the same request may work later: no network, a full disk, a failing index.
    """

    error_code = "environment_failed"

    def __init__(self, exception_message: str = "", next_step: str | None = None, *, transient: bool = False) -> None:
        super().__init__(exception_message, next_step=next_step)
        self.transient = transient
        self.build_failed = False
        """True when a package had to be built, and its build failed: another kind of machine may do better."""


class LeftToNodes(EnvironmentFailed):
    """It cannot be resolved on this machine for that target; each node has to do so. The message says why."""


class LockOutdated(EnvironmentFailed):
    """What the lock builds on is gone. The request has to be resolved anew, which may help."""


class EnvironmentStopped(AzureMLException):
    """The caller's stop was set before the environment was ready; nothing is left behind."""

    error_code = "environment_stopped"


@dataclass(frozen=True)
class Work:
    """What a builder is told about the call it serves: where its lines go, and when to give up."""

    log: Log
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by the caller to end the work soon."""
    timeout_s: float = 3600.0
    """Seconds, counted from the making of this object."""
    started: float = field(default_factory=time.monotonic)
    anew: bool = False
    """True: the user asked to look everything up anew, so an image is pulled though one of its name is here."""
    unpack: Callable[[str, str], None] | None = None
    """Puts the files of a snapshot, by its id, into an empty folder; None where no snapshots can be had."""

    def give_up(self) -> None:
        """Return when the work may go on.

        Raises:
            EnvironmentStopped: the caller wants it no more.
            EnvironmentFailed: the time is over.
        """
        if self.stop.is_set():
            raise EnvironmentStopped("The preparation of the environment was stopped.")
        if time.monotonic() - self.started > self.timeout_s:
            raise EnvironmentFailed(
                f"The environment was not ready after {self.timeout_s:g} s, so its preparation was given up.",
                "A larger environment_build_timeout_s (WINDLASS_ENVIRONMENT_BUILD_TIMEOUT_S) gives it more time.",
            )


@dataclass(frozen=True)
class Lock:
    """An environment to the last version. Equal locks give equal environments and share one on disk."""

    builder: str
    python: str
    """Absolute path of the interpreter it is built with; relative to its folder when that is part of it. In a lock for
    other machines a path there, or empty: it is found, or downloaded, by its version."""
    python_version: str
    """``major.minor.micro``."""
    platform: str
    """Such as ``linux-x86_64-glibc2.36``."""
    requirements: Sequence[str] = ()
    """Pinned requirements with their hashes, sorted; index options of the request's own come first."""
    notes: Sequence[str] = ()
    """Sentences for the user on what was chosen and why; no part of the key."""
    image: str | None = None
    """Id of the image it is built on, or, in place, the one it is; ``python`` is then a path inside of that."""

    @property
    def key(self) -> str:
        """32 hex digits of all but the notes."""
        parts: list[object] = [self.builder, self.python, self.python_version, self.platform, list(self.requirements)]
        parts += [self.image] if self.image else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def package_count(self) -> int:
        """How many packages it installs."""
        return sum(not line.startswith("-") for line in self.requirements)


@dataclass(frozen=True)
class Ready:
    """An environment that can be used now."""

    key: str
    builder: str
    python: str
    """Absolute path of the environment's interpreter; with an image the path inside of it."""
    python_version: str
    prefix: str | None
    """Its folder; None for the user's own interpreter, and for an image."""
    cached: bool
    """True when nothing was resolved or built for this call."""
    seconds: float
    notes: Sequence[str] = field(default_factory=tuple)
    image: str | None = None
    """Id of the image that holds it, for a job in a container."""
    engine: str | None = None
    """Address of the API of the container engine that has the image."""
    in_place: bool = False
    """True when it is taken as it stands, so that the cache keeps nothing of it."""
    platform: str | None = None
    """What it was resolved for when it is built on nodes elsewhere, by each for itself; ``python`` is then empty, and
    ``key`` too where they resolve it themselves. None: it is on this machine."""


class Builder(Protocol):
    """Makes environments of one kind. Methods block; they may be called from several threads at once.

    A builder never touches the place where finished environments lie: the cache hands it a folder beside.
    """

    @property
    def name(self) -> str:
        """The name it has in the registry, in locks and in lists."""
        ...

    @property
    def in_place(self) -> bool:
        """True when there is nothing to build: the interpreter of a lock stands where it is."""
        ...

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason for what this builder cannot do of ``spec``; empty means it can build it."""
        ...

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """What, together with the cache's own parts, decides which lock ``spec`` gets: JSON-ready, no secrets.

        Includes the index settings in force and the platform. Must be cheap: it is asked on every submit.
        """
        ...

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """The lock for ``spec``. May take seconds.

        Raises:
            EnvironmentFailed: no versions fit; names the package.
            EnvironmentStopped: ``work.stop`` was set.
        """
        ...

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Make the environment in the empty folder ``prefix``, so that it works after a rename of that folder.

        Never asked of a builder that works in place. What it started has ended when this returns or raises.

        Raises:
            EnvironmentFailed: a package cannot be fetched or built.
            EnvironmentStopped: ``work.stop`` was set.
        """
        ...

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """Absolute path of the interpreter of the environment at ``prefix``."""
        ...

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """None when the environment at ``prefix`` works, else what is wrong with it. Starts its interpreter once."""
        ...


@runtime_checkable
class InImages(Protocol):
    """What a builder offers besides when its environments are images of a container engine."""

    def place(self, lock: Lock, prefix: str) -> tuple[str, str]:
        """(id of the image, address of the engine's API) of an environment that was built."""
        ...


@runtime_checkable
class Outside(Protocol):
    """What a builder offers besides when parts of its environments lie outside their folders, such as in an engine.

    The cache asks it of the builder that an environment was made by, with the environment's lock and folder.
    """

    def is_there(self, lock: Lock, prefix: str) -> bool:
        """False when the part outside is gone, or nobody can be asked: then ``build`` is, which says why. Cheap."""
        ...

    def outside_bytes(self, lock: Lock, prefix: str) -> int:
        """Room that the part outside takes, what it shares with others left out; 0 when that cannot be told now."""
        ...

    def discard(self, lock: Lock, prefix: str) -> None:
        """Take the part outside away, before its folder goes.

        Raises:
            EnvironmentFailed: it cannot be taken away now; then the folder stays as well.
        """
        ...
