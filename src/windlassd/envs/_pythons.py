"""The Pythons that can be had: those of the machine first, then those that uv can download."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from windlassd.envs._compile import Planned
from windlassd.envs._downloads import Download, Downloads, forbidden
from windlassd.envs._frameworks import Versioned
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import OLDEST, Interpreter, Interpreters, fits, own
from windlassd.envs.target import Target


class Pythons:
    """What a request for a version may get.

    Args:
        installed: Those of this machine.
        lock_folder: See ``Downloads``.
    """

    _place = "this machine"

    def __init__(self, installed: Interpreters, lock_folder: str) -> None:
        self._installed = installed
        self._downloads = Downloads(installed, lock_folder)

    def installed(self) -> Sequence[Interpreter]:
        """All that are there, newest first."""
        return self._installed.available()

    def here(self, wanted: str | None) -> Sequence[Interpreter]:
        """One installed interpreter of each minor version that fits, newest first."""
        return self._installed.fitting(wanted)

    def default(self, work: Work) -> Interpreter:
        """What a request gets to which every Python will do."""
        return own()

    def elsewhere(self, wanted: str | None) -> Sequence[Download]:
        """What can be downloaded of the minor versions of which nothing that fits is installed, newest first."""
        have = {item.numbers[:2] for item in self.here(wanted)}
        return [item for item in self._downloads.fitting(wanted) if item.numbers[:2] not in have]

    def everywhere(self) -> Iterator[Versioned]:
        """All of both; uv is asked only by who goes beyond the installed ones."""
        yield from self.installed()
        yield from self._downloads.available()

    def fetch(self, download: Download, work: Work) -> Interpreter:
        """See ``Downloads.fetch``; the failure lists what can be had."""
        try:
            return self._downloads.fetch(download, work)
        except EnvironmentFailed as problem:
            raise EnvironmentFailed(
                problem.message, f"Installed: {_versions(self.installed())}.", transient=problem.transient
            ) from problem

    def one(self, wanted: str, work: Work) -> Interpreter:
        """The newest interpreter for a version, downloaded if need be.

        Raises:
            EnvironmentFailed: none can be had; lists those that can.
        """
        for found in self.here(wanted):
            return found
        for download in self.elsewhere(wanted):
            return self.fetch(download, work)
        raise self.refusal(wanted)

    def refusal(self, wanted: str | None) -> EnvironmentFailed:
        """The error for a version that cannot be had, with the versions that can."""
        ban = forbidden()
        near = [item for item in self._downloads.available() if wanted and fits(item.numbers, _minor(wanted))]
        newest = self._downloads.fitting(None)
        more = sorted({*near, *newest}, key=lambda item: item.numbers, reverse=True)
        can = f"uv can download: {_versions(more)}." if more else ""
        return EnvironmentFailed(
            f"No interpreter for Python {wanted} can be had. "
            f"Installed on {self._place}: {_versions(self.installed()) or 'none'}. "
            + (f"Downloads by uv are switched off by {ban}." if ban else can or "uv lists none to download."),
            "Ask for one of them, or install that Python (pyenv, uv, the system's packages) and try again.",
        )


class TargetPythons(Pythons):
    """What a request may get on other machines: nothing is downloaded here, and nothing of theirs is started.

    Args:
        target: The machines.
        installed: Those of this machine, which stand in where something has to be built to be looked into.
        lock_folder: See ``Downloads``.
    """

    _place = "the nodes"

    def __init__(self, target: Target, installed: Interpreters, lock_folder: str) -> None:
        super().__init__(installed, lock_folder)
        self._target = target
        self._downloads = Downloads(installed, lock_folder, target)

    def installed(self) -> Sequence[Interpreter]:
        """Those of the target that jobs can run on, newest first."""
        found = [Interpreter(path, version, "cpython") for version, path in self._target.pythons]
        usable = [item for item in found if item.numbers[:2] >= OLDEST]
        return sorted(usable, key=lambda item: (item.numbers, item.path), reverse=True)

    def here(self, wanted: str | None) -> Sequence[Interpreter]:
        """The newest of each minor version that fits, newest first."""
        newest: dict[tuple[int, ...], Interpreter] = {}
        for item in self.installed():
            if wanted is None or fits(item.numbers, wanted):
                newest.setdefault(item.numbers[:2], item)
        return [self._planned(item.version, item.path) for item in newest.values()]

    def default(self, work: Work) -> Interpreter:
        """The one that is most like this server's own, so that bare environments are alike here and there."""
        minor = "{}.{}".format(*own().numbers)
        return next(iter([*self.here(minor), *self.here(None)]), None) or self.one(minor, work)

    def fetch(self, download: Download, work: Work) -> Interpreter:
        """That version, which uv downloads where it will run."""
        return self._planned(download.version, "")

    def _planned(self, version: str, path: str) -> Planned:
        minor = ".".join(version.split(".")[:2])
        stand_in = next((item.path for item in self._installed.fitting(minor)), None)
        return Planned(path, version, "cpython", wheels_for=self._target.uv_platform, stand_in=stand_in)


def _versions(items: Sequence[Interpreter] | Sequence[Download]) -> str:
    return ", ".join(dict.fromkeys(item.version for item in items))


def _minor(wanted: str) -> str:
    """The minor version that is named first."""
    found = re.search(r"\d+(?:\.\d+)?", wanted)
    return found.group() if found else wanted
