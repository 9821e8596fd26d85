"""The Pythons that can be had: those of this machine first, then those that uv can download."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from windlassd.envs._downloads import Download, Downloads, forbidden
from windlassd.envs._frameworks import Versioned
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import Interpreter, Interpreters, fits


class Pythons:
    """What a request for a version may get.

    Args:
        installed: Those of this machine.
        lock_folder: See ``Downloads``.
    """

    def __init__(self, installed: Interpreters, lock_folder: str) -> None:
        self._installed = installed
        self._downloads = Downloads(installed, lock_folder)

    def here(self, wanted: str | None) -> Sequence[Interpreter]:
        """One installed interpreter of each minor version that fits, newest first."""
        return self._installed.fitting(wanted)

    def elsewhere(self, wanted: str | None) -> Sequence[Download]:
        """What can be downloaded of the minor versions of which nothing that fits is installed, newest first."""
        have = {item.numbers[:2] for item in self.here(wanted)}
        return [item for item in self._downloads.fitting(wanted) if item.numbers[:2] not in have]

    def everywhere(self) -> Iterator[Versioned]:
        """All of both; uv is asked only by who goes beyond the installed ones."""
        yield from self._installed.available()
        yield from self._downloads.available()

    def fetch(self, download: Download, work: Work) -> Interpreter:
        """See ``Downloads.fetch``; the failure lists what can be had."""
        try:
            return self._downloads.fetch(download, work)
        except EnvironmentFailed as problem:
            raise EnvironmentFailed(
                problem.message, f"Installed: {_versions(self._installed.available())}.", transient=problem.transient
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
            f"Installed on this machine: {_versions(self._installed.available())}. "
            + (f"Downloads by uv are switched off by {ban}." if ban else can or "uv lists none to download."),
            "Ask for one of them, or install that Python (pyenv, uv, the system's packages) and try again.",
        )


def _versions(items: Sequence[Interpreter] | Sequence[Download]) -> str:
    return ", ".join(dict.fromkeys(item.version for item in items))


def _minor(wanted: str) -> str:
    """The minor version that is named first."""
    found = re.search(r"\d+(?:\.\d+)?", wanted)
    return found.group() if found else wanted
