"""Virtual environments by uv: the default builder."""

from __future__ import annotations

import functools
import glob
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._frameworks import chosen, has_gpu, refused
from windlassd.envs._index import index_settings
from windlassd.envs._process import memory_file, run
from windlassd.envs._requirements import requirement_name, wanted
from windlassd.envs._resolve import BUILD_CONSTRAINT, option_lines, resolve
from windlassd.envs._uv import run_uv
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import Interpreters, own, too_old

_HEALTH = "import json, sys; print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.prefix]))"


class VenvBuilder:
    """Resolves with ``uv pip compile`` and installs, by hard links out of uv's cache, what the lock names."""

    name = "venv"
    in_place = False

    def __init__(self, interpreters: Interpreters) -> None:
        self._interpreters = interpreters
        self._to_be_had: set[tuple[str | None, str | None]] = set()

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason for what a virtual environment cannot be."""
        if spec.user_managed:
            return {"user_managed": "a virtual environment is built, never taken from the user"}
        try:
            python = wanted(spec).python
        except EnvironmentFailed as e:
            return {"packages": e.message}
        if python and too_old(python):
            return {"python_version": f"Python {python} is asked for, and jobs run on Python 3.7 and newer"}
        return self._refused_framework(spec) if spec.framework else {}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """Index settings, platform, what a framework adds, and, for a bare environment, the default interpreter."""
        want, default = wanted(spec), own()
        framework = chosen(spec)
        return {
            "builder": self.name,
            "platform": platform_name(),
            "default": None if want.python or want.requirements else [default.path, default.version],
            "framework": [framework.requirement, *framework.along] if framework else None,
            "gpu": has_gpu(),
            "index": index_settings().public,
        }

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """The spec's packages to the last version, in the newest interpreter where all of them fit.

        A bare environment gets windlassd's own interpreter, unless a version is asked for.
        """
        want = wanted(spec)
        if want.requirements:
            found = resolve(want, self._interpreters.candidates(want.python), index_settings(), work)
            left_out = [f"{name}: a dependency that Windlass satisfies, not installed." for name in found.left_out]
            python, pins = found.python, found.pins
            notes = [*found.notes, *_framework_note(spec, pins), *want.notes, *left_out]
        else:
            python = self._interpreters.candidates(want.python)[0] if want.python else own()
            notes, pins = [f"Python {python.version} ({python.path}).", *want.notes], ()
        for note in notes:
            work.log(note)
        requirements = (*option_lines(want), *pins) if pins else ()
        return Lock(self.name, python.path, python.version, platform_name(), requirements, tuple(notes))

    def _refused_framework(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        asked = (spec.framework, spec.framework_version)
        if asked in self._to_be_had:  # looking for interpreters takes milliseconds, and this is asked at each submit
            return {}
        if reason := refused(spec, self._interpreters.available):
            return {"framework_version" if spec.framework_version else "framework": reason}
        self._to_be_had.add(asked)
        return {}

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Make a relocatable virtual environment at ``prefix`` and install the lock into it."""
        index, version = index_settings(), lock.python_version
        argv = ["venv", "--relocatable", "--no-project", "--quiet", "--python", lock.python, prefix]
        run_uv(argv, index, work, asked=(), python_version=version)
        lines = [line for line in lock.requirements if not line.startswith(BUILD_CONSTRAINT)]
        if not lines:
            return
        constraints = [line[len(BUILD_CONSTRAINT) :] for line in lock.requirements if line.startswith(BUILD_CONSTRAINT)]
        hashed = all("--hash=" in line for line in lines if not line.startswith("-"))
        with memory_file("\n".join(lines) + "\n") as packages, memory_file("\n".join(constraints) + "\n") as limits:
            argv = ["pip", "sync", "--python", self.interpreter(lock, prefix), packages.path, *index.options]
            # A requirement from version control has no hash; uv still verifies those that are there.
            argv += ["--require-hashes"] if hashed else []
            argv += ["--build-constraints", limits.path] if constraints else []
            argv += [] if "UV_LINK_MODE" in index.environment else ["--link-mode", "hardlink"]
            run_uv(argv, index, work, asked=lines, python_version=version, files=(packages, limits))

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """``bin/python`` of the environment."""
        return os.path.join(prefix, "bin", "python")

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """Start the interpreter; compare its version, its prefix and the number of packages with the lock."""
        done = run([self.interpreter(lock, prefix), "-I", "-B", "-c", _HEALTH], index_settings().environment, work)
        if done.code != 0:
            return f"its interpreter exits with status {done.code}: {done.err.strip()[-300:]}"
        version, at = json.loads(done.out)
        if version != lock.python_version:
            return f"it runs Python {version} where {lock.python_version} was wanted"
        if os.path.realpath(at) != os.path.realpath(prefix):
            return f"its interpreter takes {at} for its home"
        installed = len(glob.glob(os.path.join(glob.escape(prefix), "lib", "python*", "site-packages", "*.*-info")))
        if installed < lock.package_count:
            return f"{installed} of {lock.package_count} packages are there"
        return None


def _framework_note(spec: EnvironmentSpec, pins: Sequence[str]) -> Iterator[str]:
    """Which version of its framework a run got."""
    framework = chosen(spec)
    name = requirement_name(framework.requirement) if framework else ""
    for pin in pins if framework else ():
        if requirement_name(pin) == name:
            yield f"{spec.framework}: {pin.split(' ')[0]}."


@functools.lru_cache(maxsize=1)
def platform_name() -> str:
    """Such as ``linux-x86_64-glibc2.36``: what decides which wheels fit."""
    libc = (os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None) or "libc"
    return f"linux-{platform.machine()}-{libc.replace(' ', '')}"


def create(interpreters_file: str) -> VenvBuilder:
    """The builder, for the registry."""
    return VenvBuilder(Interpreters(interpreters_file))
