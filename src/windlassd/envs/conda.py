"""Conda prefixes by rattler: for lists with something that PyPI does not have.

Python and what only conda has come from the channels, the rest by uv into the same prefix. A list of which PyPI turns
out to have everything becomes a virtual environment all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from windlass import settings
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import venv
from windlassd.envs._conda_cache import folder
from windlassd.envs._conda_channels import channel_settings, channels
from windlassd.envs._conda_prefix import install, wrong_with
from windlassd.envs._conda_resolve import ChannelResolver, PrefixLock, channels_in_force, with_named
from windlassd.envs._conda_solve import ASSUMED_CUDA, Rattler
from windlassd.envs._frameworks import refused
from windlassd.envs._layout import built_prefix
from windlassd.envs._requirements import wanted
from windlassd.envs.base import Builder, EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import any_python, too_old
from windlassd.envs.target import Target, platform_name

_PYTHON = "bin/python"


class CondaBuilder:
    """Solves and installs with rattler.

    Args:
        pypi: The builder for what PyPI has.
        cache: Folder for packages that the channels gave.
        final: Where the environment of a key will lie when it is done: that path is written into its files.
        target: Where its locks are for; None: this machine.
    """

    name = "conda"
    in_place = False

    def __init__(self, pypi: Builder, cache: str, final: Callable[[str], str], target: Target | None = None) -> None:
        self._pypi = pypi
        self._target = target
        self._rattler = Rattler(cache)
        self._final = final

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason for what a conda prefix cannot be."""
        if spec.user_managed:
            return {"user_managed": "a conda prefix is built, never taken from the user"}
        try:
            python = wanted(spec, target=self._target).python
            channels(with_named(spec), channel_settings())
        except EnvironmentFailed as e:
            return {"packages": e.message}
        if python and (reason := too_old(python)):
            return {"python_version": reason}
        reason = refused(spec, any_python, self._target) if spec.framework else None
        return {"framework": reason} if reason else {}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """What decides for PyPI's part, and the channels without credentials."""
        return {**self._pypi.request(spec), "builder": self.name, **channels_in_force(spec)}

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """The channels' part by rattler, the rest by uv; without such a part what the other builder makes of it."""
        resolver = ChannelResolver(spec, self._rattler, work, target=self._target)
        return resolver.resolve(lambda: self._pypi.resolve(spec, work), self._locked)

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Make the prefix of the lock alone: nothing is solved."""
        if lock.builder != self.name:
            self._pypi.build(lock, prefix, work)
            return
        install(self._rattler, lock, prefix, self._final(lock.key), work)

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """``bin/python`` of the prefix."""
        return os.path.join(prefix, _PYTHON)

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """Start the interpreter; compare it and what is installed with the lock."""
        if lock.builder != self.name:
            return self._pypi.check(lock, prefix, work)
        return wrong_with(lock, self.interpreter(lock, prefix), prefix, work)

    def _locked(self, found: PrefixLock) -> Lock:
        platform, notes = platform_name(), found.notes
        if self._target:
            platform, notes = self._target.platform, (*notes, *_assumed(self._target))
        return Lock(self.name, _PYTHON, found.python, platform, found.lines, notes)


def _assumed(target: Target) -> Sequence[str]:
    """A sentence on what nobody said of the nodes, where it decides."""
    if not target.gpus or settings.child_environment().get("CONDA_OVERRIDE_CUDA"):
        return ()
    said = f"The driver of the nodes' GPUs is taken to do CUDA {ASSUMED_CUDA}"
    return (f"{said}; CONDA_OVERRIDE_CUDA where the server runs says otherwise.",)


def create(interpreters_file: str, target: Target | None = None) -> CondaBuilder:
    """The builder, for the registry."""
    root = os.path.dirname(interpreters_file)
    pypi = venv.create(interpreters_file, target)
    return CondaBuilder(pypi, folder(root), lambda key: built_prefix(root, key), target)
