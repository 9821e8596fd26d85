"""Running uv: with the user's index settings, its lines handed on without credentials, its failures in our words."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Protocol

import uv

from windlassd.envs import _uv_errors
from windlassd.envs._index import IndexSettings
from windlassd.envs._process import MemoryFile, OpenFolder, Output, memory_file, run
from windlassd.envs.base import EnvironmentFailed, Work

_NOT_STARTED = (126, 127)
"""What a shell ends with when it cannot start a program; uv itself ends with 1 or 2."""


def run_uv(
    args: Sequence[str],
    index: IndexSettings,
    work: Work,
    *,
    asked: Sequence[str],
    python_version: str,
    files: Sequence[MemoryFile] = (),
    quiet: bool = False,
    folder: OpenFolder | None = None,
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
        folder: One that the arguments name by its path as an open one; what uv says of it is said of its own path.

    Raises:
        UvFailed: uv failed; its reason in our words.
    """

    def start(words: Sequence[str], index: IndexSettings, files: Sequence[MemoryFile], *, aloud: bool) -> Output:
        def tell(line: str) -> None:
            told(index, work, named(line))

        given = (*files, *([folder] if folder else []))
        done = run([program(), *words], index.environment, work, files=given, on_line=tell if aloud else None)
        if done.code < 0:
            raise _uv_errors.killed(-done.code)
        if done.code in _NOT_STARTED:
            raise _missing(done.err.strip())
        return Output(done.code, done.out, named(done.err))

    def named(text: str) -> str:
        return text.replace(folder.path, folder.name) if folder else text

    return answer(start, args, index, work, asked=asked, python_version=python_version, files=files, quiet=quiet)


class Start(Protocol):
    """Starts uv with these arguments and waits for its end; shows its lines when ``aloud``."""

    def __call__(
        self, words: Sequence[str], index: IndexSettings, files: Sequence[MemoryFile], *, aloud: bool
    ) -> Output:
        """What it wrote, and its own exit code; UvFailed when it was killed."""
        ...


def answer(
    start: Start,
    args: Sequence[str],
    index: IndexSettings,
    work: Work,
    *,
    asked: Sequence[str],
    python_version: str,
    files: Sequence[MemoryFile],
    quiet: bool,
) -> str:
    """As ``run_uv``, with uv where ``start`` starts it: without a network once more with what uv's cache has."""
    done = start(args, index, files, aloud=not quiet)
    if done.code == 0:
        return index.mask(done.out)
    named = [line.split(" --hash=")[0] for line in asked]
    failure = _uv_errors.failure(index.mask(done.err), named, python_version, index.has_login)
    if failure.unreachable and not work.anew:
        again = start([*args, "--offline"], index, files, aloud=False)
        if again.code == 0:
            work.log("The package index cannot be reached: taken from what uv has in its cache.")
            return index.mask(again.out)
    raise _refusal(start, failure, args, index, python_version) or failure


def told(index: IndexSettings, work: Work, line: str) -> None:
    """Hand a line of uv's on to the log, if it says something."""
    # "Using Python … at …/building/…" names a folder that is gone by the time somebody reads it.
    if line.strip() and not line.startswith("Using ") and "is missing an upload date" not in line:
        work.log(_uv_errors.readable(index.mask(line)))


def _refusal(
    start: Start, failed: _uv_errors.UvFailed, args: Sequence[str], index: IndexSettings, python_version: str
) -> _uv_errors.UvFailed | None:
    """The error of an index that refuses access, when that is why something was not found.

    Told to take the best of several indexes, as pip does, uv passes over one that refuses without a word.
    """
    if not failed.missing or "UV_INDEX_STRATEGY" not in index.environment:
        return None
    with memory_file(failed.missing + "\n") as package:
        argv = ["pip", "compile", package.path, "--no-deps", "--index-strategy", "first-index", *index.options]
        argv += ["--python", args[args.index("--python") + 1]] if "--python" in args else []
        done = start(argv, index.for_a_lock(), (package,), aloud=False)
    found = _uv_errors.failure(index.mask(done.err), [failed.missing], python_version, index.has_login)
    return found if found.refused else None


@functools.lru_cache(maxsize=1)
def program() -> str:
    """Path of the uv that came with this package.

    Raises:
        EnvironmentFailed: it is not there.
    """
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as e:
        raise _missing(str(e)) from e


def _missing(why: str) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The program uv, which makes environments and belongs to Windlass, cannot be started: {why}.",
        f"Install it again: {sys.executable} -m pip install --force-reinstall uv",
    )
