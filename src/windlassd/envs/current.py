"""The user's own interpreter, taken as it is (``user_managed``)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._requirements import refused_packages
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import OLDEST, fits, probe


class CurrentBuilder:
    """Checks the interpreter that the spec names; builds nothing."""

    name = "current"
    in_place = True

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason; packages are the user's own affair here."""
        reasons = {}
        if not spec.user_managed:
            reasons["user_managed"] = "it is not set, so an environment of its own has to be built"
        nothing = "nothing is installed into an environment that its user manages; install them there yourself"
        return {**reasons, **refused_packages(spec, nothing)}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """The interpreter's path, target and modification time: a new one behind the same path is checked anew."""
        path = spec.interpreter or ""
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            return {"builder": self.name, "path": path}
        return {
            "builder": self.name,
            "path": path,
            "target": os.path.realpath(path),
            "stamp": [state.st_mtime_ns, state.st_size],
        }

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """A lock that names the interpreter, after running it once."""
        path = _usable(spec.interpreter)
        result = probe(path)
        if isinstance(result, str):
            raise EnvironmentFailed(
                f"The interpreter {path} of the user-managed environment does not work: {result}.",
                "Name a Python 3.7 or newer.",
            )
        version, implementation = result
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise EnvironmentFailed(
                f"The interpreter {path} of the user-managed environment is Python {version}; jobs run on Python 3.7 "
                "and newer.",
                "Name a newer one.",
            )
        notes = [f"Python {version} ({path}), managed by its user."]
        if spec.python_version and not fits(tuple(int(part) for part in version.split(".")), spec.python_version):
            notes.append(f"python_version {spec.python_version} has no effect on an environment that its user manages.")
        for note in notes:
            work.log(note)
        return Lock(self.name, path, version, implementation, (), tuple(notes))

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Refuse: nothing is ever built here."""
        raise EnvironmentFailed(f"The interpreter {lock.python} is its user's; there is nothing to build.")

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """The user's interpreter."""
        return lock.python

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """None while the interpreter still answers with the version of the lock."""
        result = probe(lock.python)
        if isinstance(result, str):
            return f"the interpreter {lock.python} does not work: {result}"
        return None if result[0] == lock.python_version else f"{lock.python} is Python {result[0]} now"


def _usable(path: str | None) -> str:
    if not path:
        raise EnvironmentFailed(
            "A user-managed environment needs the path of its interpreter.",
            "Set interpreter to an absolute path, such as the output of: python -c 'import sys; print(sys.executable)'",
        )
    if not os.path.isabs(path):
        raise EnvironmentFailed(
            f"The interpreter {path!r} of the user-managed environment is no absolute path.",
            "The server's folder and PATH are not yours; write the whole path.",
        )
    if not os.path.exists(path):
        raise EnvironmentFailed(f"The interpreter {path} of the user-managed environment does not exist.",
                                "Check the path on the machine that the run goes to.")  # fmt: skip
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise EnvironmentFailed(f"{path}, named as interpreter of the user-managed environment, is not executable.",
                                "Name the interpreter itself, such as …/bin/python.")  # fmt: skip
    return path


def create(interpreters_file: str) -> CurrentBuilder:
    """The builder, for the registry."""
    return CurrentBuilder()
