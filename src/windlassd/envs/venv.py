"""Virtual environments by uv: the default builder."""

from __future__ import annotations

import functools
import glob
import os
import shutil
from collections.abc import Mapping

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._blank import Blanks
from windlassd.envs._compile import Extra
from windlassd.envs._frameworks import chosen, framework_notes, gpu_at, refused, versions_instead
from windlassd.envs._health import wrong_with_python
from windlassd.envs._index import IndexSettings, index_settings
from windlassd.envs._install import install
from windlassd.envs._installed import damaged
from windlassd.envs._process import open_folder
from windlassd.envs._pythons import Pythons, TargetPythons
from windlassd.envs._requirements import Wanted, wanted
from windlassd.envs._resolve import Later, option_lines, resolve
from windlassd.envs._resolved import Resolved
from windlassd.envs._resolved import chosen as chosen_python
from windlassd.envs._uv import run_uv
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import Interpreters, own, too_old
from windlassd.envs.target import Target, platform_name


class VenvBuilder:
    """Resolves with ``uv pip compile`` and installs, by hard links out of uv's cache, what the lock names.

    Args:
        pythons: Which there are.
        target: Where its locks are for; None: this machine.
    """

    name = "venv"
    in_place = False

    def __init__(self, pythons: Pythons, target: Target | None = None) -> None:
        self._pythons = pythons
        self._target = target
        self._platform = target.platform if target else platform_name()
        self._blanks = Blanks()
        self._to_be_had: set[tuple[str | None, str | None]] = set()

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason for what a virtual environment cannot be."""
        if spec.user_managed:
            return {"user_managed": "a virtual environment is built, never taken from the user"}
        try:
            want = wanted(spec, target=self._target)
        except EnvironmentFailed as e:
            return {"packages": e.message}
        if native := want.conda.conda:
            return {"conda_packages": f"PyPI does not have {', '.join(entry.text for entry in native)}"}
        if want.python and (reason := too_old(want.python)):
            return {"python_version": reason}
        return self._refused_framework(spec) if spec.framework else {}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """Index settings, platform, what a framework adds, and, for a bare environment, the default interpreter."""
        want, target = wanted(spec, target=self._target), self._target
        default = own()
        framework = chosen(spec, target)
        return {
            "builder": self.name,
            "platform": self._platform,
            "default": None if want.python or want.requirements else [default.path, default.version],
            "framework": [framework.requirement, *framework.along] if framework else None,
            "gpu": gpu_at(target),
            "index": index_settings().public,
            **({"pythons": target.pythons} if target else {}),
        }

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """The spec's packages to the last version, in the newest interpreter where all of them fit.

        A bare environment gets windlassd's own interpreter, unless a version is asked for.
        """
        want, extra = wanted(spec, target=self._target), Extra()
        if want.requirements:
            found = self._resolved(spec, want, work)
            python, pins, extra = found.python, found.pins, found.extra
            added = framework_notes(spec, want.requirements, pins, self._target)
            notes = [*found.notes, *added, *want.notes, *found.satisfied]
        else:
            python = self._pythons.one(want.python, work) if want.python else self._pythons.default(work)
            notes, pins = [chosen_python(python), *want.notes], ()
        for note in notes:
            work.log(note)
        requirements = (*option_lines(want, extra), *pins) if pins else ()
        return Lock(self.name, python.path, python.version, self._platform, requirements, tuple(notes))

    def _resolved(self, spec: EnvironmentSpec, want: Wanted, work: Work) -> Resolved:
        here = self._pythons.here(want.python)
        later = Later(functools.cache(lambda: self._pythons.elsewhere(want.python)), self._pythons.fetch)
        if not here and not later.listed():
            raise self._pythons.refusal(want.python)
        try:
            return resolve(want, here, index_settings(), work, later)
        except EnvironmentFailed as failure:
            if instead := versions_instead(spec, failure.message, self._pythons.everywhere):
                raise EnvironmentFailed(f"{failure.message}\n{instead}") from failure
            raise

    def _refused_framework(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        asked = (spec.framework, spec.framework_version)
        if asked in self._to_be_had:  # looking for interpreters takes milliseconds, and this is asked at each submit
            return {}
        if reason := refused(spec, self._pythons.everywhere, self._target):
            return {"framework_version" if spec.framework_version else "framework": reason}
        self._to_be_had.add(asked)
        return {}

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Make a relocatable virtual environment at ``prefix`` and install the lock into it."""
        index = index_settings()
        linked = () if "UV_LINK_MODE" in index.environment else ("--link-mode", "hardlink")
        self._make(lock, prefix, index, work, *linked)
        if names := damaged(prefix):
            work.log(
                f"uv's cache holds damaged files of {', '.join(names)} (`uv cache clean {' '.join(names)}` removes "
                "them); these packages are fetched anew."
            )
            again = [part for name in names for part in ("--reinstall-package", name)]
            try:
                self._install(lock, prefix, index, work, "--no-cache", *again)
            except UvFailed:  # what is damaged cannot even be taken away
                shutil.rmtree(prefix)
                self._make(lock, prefix, index, work, "--no-cache")

    def _make(self, lock: Lock, prefix: str, index: IndexSettings, work: Work, *more: str) -> None:
        argv = ["venv", "--relocatable", "--no-project", "--quiet", "--python", lock.python, prefix]
        uv = functools.partial(run_uv, argv, index, work, asked=(), python_version=lock.python_version)
        self._blanks.make(lock.python, prefix, uv)
        self._install(lock, prefix, index, work, *more)

    def _install(self, lock: Lock, prefix: str, index: IndexSettings, work: Work, *more: str) -> None:
        """Install by a path that is the same for each environment: what uv learned of one then holds for the next.

        Starting an interpreter that it has not seen to ask what it is takes it longer than all else with few packages.
        uv tells interpreters of one path apart by the time of their file, which is one and the same for all that were
        unpacked from some archives: so the path has the version.
        """
        minor = ".".join(lock.python_version.split(".")[:2])
        with open_folder(prefix) as folder:
            python = os.path.join(folder.path, "bin", "python" + minor)
            install(lock, python, index, work, *more, uv=functools.partial(run_uv, folder=folder))

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """``bin/python`` of the environment."""
        return os.path.join(prefix, "bin", "python")

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """Start the interpreter; compare its version, its prefix and the number of packages with the lock."""
        if wrong := wrong_with_python(self.interpreter(lock, prefix), lock, prefix, work):
            return wrong
        installed = len(glob.glob(os.path.join(glob.escape(prefix), "lib", "python*", "site-packages", "*.*-info")))
        if installed < lock.package_count:
            return f"{installed} of {lock.package_count} packages are there"
        return None


def create(interpreters_file: str, target: Target | None = None) -> VenvBuilder:
    """The builder, for the registry."""
    installed, folder = Interpreters(interpreters_file), os.path.dirname(interpreters_file)
    return VenvBuilder(TargetPythons(target, installed, folder) if target else Pythons(installed, folder), target)
