"""Running uv: with the user's index settings, its lines handed on without credentials, its failures in our words."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import uv

from windlassd.envs import _uv_errors
from windlassd.envs._index import IndexSettings
from windlassd.envs._process import MemoryFile, run
from windlassd.envs.base import Work


def run_uv(
    args: Sequence[str],
    index: IndexSettings,
    work: Work,
    *,
    asked: Sequence[str],
    python_version: str,
    files: Sequence[MemoryFile] = (),
    quiet: bool = False,
) -> str:
    """Run uv and return its standard output.

    Args:
        args: uv's arguments.
        index: The settings in force.
        work: Where its lines go, and when to give up.
        asked: The requirements, to be named when they do not fit.
        python_version: For the message of a failure.
        files: Nameless files among the arguments.
        quiet: True: a failure is expected, so its lines are not shown.

    Raises:
        UvFailed: uv failed; its reason in our words.
    """

    def tell(line: str) -> None:
        # "Using Python … at …/building/…" names a folder that is gone by the time somebody reads it.
        if line.strip() and not line.startswith("Using "):
            work.log(_uv_errors.readable(index.mask(line)))

    done = run([program(), *args], index.environment, work, files=files, on_line=None if quiet else tell)
    if done.code < 0:
        raise _uv_errors.killed(-done.code)
    if done.code != 0:
        raise _uv_errors.failure(index.mask(done.err), [line.split(" --hash=")[0] for line in asked], python_version)
    return index.mask(done.out)


@functools.lru_cache(maxsize=1)
def program() -> str:
    """Path of the uv that came with this package."""
    return uv.find_uv_bin()
