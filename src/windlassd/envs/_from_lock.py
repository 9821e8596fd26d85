"""A lock that another machine has resolved, as this one can build it: with an interpreter of its own."""

from __future__ import annotations

import functools
import importlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import Interpreter, Interpreters, probe
from windlassd.envs.target import platform_name, runs_on

if TYPE_CHECKING:
    from windlassd.envs._pythons import Pythons

_PYTHONS = "windlassd.envs._pythons"
"""Loaded when one has to be downloaded: it brings uv along."""


class Locator:
    """Finds what a lock is to be built with.

    Args:
        root: The cache's folder, where is noted what interpreters this machine has.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    @functools.cached_property
    def _interpreters(self) -> Interpreters:
        return Interpreters(os.path.join(self._root, "interpreters.json"))

    def here(self, lock: Lock) -> Lock | None:
        """``lock`` with an interpreter of this machine; None when one has to be downloaded.

        Raises:
            EnvironmentFailed: it is for other machines.
        """
        if not runs_on(lock.platform, platform_name()):
            raise EnvironmentFailed(
                f"The packages were chosen for {lock.platform}, and this node is {platform_name()}.",
                "Let the cluster have nodes of one kind, or name their oldest.",
            )
        if lock.python and not os.path.isabs(lock.python):
            return lock  # the packages bring it along
        found = self._installed(lock)
        return _with(lock, found) if found else None

    def downloaded(self, lock: Lock, work: Work) -> Lock:
        """``lock`` with an interpreter that uv downloads.

        Raises:
            EnvironmentFailed: none of its version can be had.
        """
        pythons: Pythons = importlib.import_module(_PYTHONS).Pythons(self._interpreters, self._root)
        minor = ".".join(map(str, _numbers(lock)[:2]))
        for wanted in (lock.python_version, minor):
            for download in pythons.elsewhere(wanted):
                return _with(lock, pythons.fetch(download, work))
        raise pythons.refusal(minor)

    def _installed(self, lock: Lock) -> Interpreter | None:
        """The interpreter of that very version, the one that the lock names first; else of the same minor version."""
        fitting = [item for item in self._interpreters.available() if item.numbers[:2] == _numbers(lock)[:2]]
        same = [item for item in fitting if item.version == lock.python_version]
        named = [item for item in same if item.path == os.path.realpath(lock.python)]
        if not named and os.access(lock.python, os.X_OK) and probe(lock.python) == (lock.python_version, "cpython"):
            return Interpreter(lock.python, lock.python_version, "cpython")
        return next(iter([*named, *same, *fitting]), None)


def _with(lock: Lock, python: Interpreter) -> Lock:
    notes = lock.notes
    if python.version != lock.python_version:
        notes = (*notes, f"Python {python.version} stands in for the {lock.python_version} that it was resolved for.")
    return replace(lock, python=python.path, python_version=python.version, notes=tuple(notes))


def _numbers(lock: Lock) -> tuple[int, ...]:
    return tuple(map(int, lock.python_version.split(".")))
