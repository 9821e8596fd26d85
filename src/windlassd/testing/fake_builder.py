"""A builder without packages or uv, for tests of what stands around builders."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentFailed, Lock, Work


class FakeBuilder:
    """ "Builds" a folder whose interpreter is a link to this process's own, and counts what it was asked.

    Attributes:
        versions: Version that each package gets; changing one is a release on the index.
        before_build: Called at the start of each build; may block or raise.
        fault: What ``check`` finds wrong.
        away: What ``resolve`` fails with, as when there is no network; None: it works.
        payload: Bytes of a file in each environment.
    """

    name = "fake"
    in_place = False

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.before_build: Callable[[Work], None] = lambda work: None
        self.fault: str | None = None
        self.away: str | None = None
        self.payload = 0
        self.resolved = 0
        self.built = 0
        self._lock = threading.Lock()

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Conda packages are refused."""
        return {"conda_packages": "the fake builder has none"} if spec.conda_packages else {}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """Nothing but the name."""
        return {"builder": self.name}

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """Each package at its version in ``versions``, else 1.0; a package called ``nosuch`` is not there."""
        work.give_up()
        with self._lock:
            self.resolved += 1
        if self.away:
            raise EnvironmentFailed(self.away, transient=True)
        if "nosuch" in spec.pip_packages:
            raise EnvironmentFailed("The package 'nosuch' cannot be found.")
        pins = tuple(sorted(f"{name}=={self.versions.get(name, '1.0')}" for name in spec.pip_packages))
        version = "{}.{}.{}".format(*sys.version_info[:3])
        return Lock(self.name, sys.executable, version, "fake", pins, ("Fake.",))

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Make ``bin/python``, a module and the payload."""
        work.give_up()
        with self._lock:
            self.built += 1
        work.log(f"Building {', '.join(lock.requirements)}.")
        self.before_build(work)
        os.mkdir(os.path.join(prefix, "bin"))
        os.mkdir(os.path.join(prefix, "lib"))
        with open(os.path.join(prefix, "lib", "payload"), "wb") as payload:
            payload.write(b"x" * self.payload)
        with open(os.path.join(prefix, "lib", "fake.py"), "w", encoding="ascii") as file:
            file.write("made = True\n")
        os.symlink(sys.executable, self.interpreter(lock, prefix))

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """``bin/python`` in the folder."""
        return os.path.join(prefix, "bin", "python")

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """``fault``, or that the interpreter is gone."""
        if not os.access(self.interpreter(lock, prefix), os.X_OK):
            return "its interpreter is gone"
        return self.fault
