"""Installing what a lock names into a virtual environment, here or in a container."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from windlassd.envs._index import IndexSettings
from windlassd.envs._process import memory_file
from windlassd.envs._resolve import BUILD_CONSTRAINT, OPTION
from windlassd.envs._uv import run_uv
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import CONDA, Lock, Work


def install(
    lock: Lock,
    python: str,
    index: IndexSettings,
    work: Work,
    *more: str,
    uv: Callable[..., str] = run_uv,
    beside: bool = False,
) -> None:
    """Make the environment of the interpreter ``python`` hold what ``lock`` names of PyPI's, and nothing else.

    Args:
        lock: What to install.
        python: Path of the interpreter, for ``uv``.
        index: The settings in force.
        work: Where lines go, and when to give up.
        more: Options for uv.
        uv: Runs it, as ``run_uv`` does.
        beside: True: what conda has put there stays.

    Raises:
        EnvironmentFailed: a package cannot be had or built.
    """
    lines = pip_lines(lock)
    if not lines:
        return
    options = [p for line in lock.requirements if line.startswith(OPTION) for p in line[len(OPTION) :].split(" ", 1)]
    constraints = [line[len(BUILD_CONSTRAINT) :] for line in lock.requirements if line.startswith(BUILD_CONSTRAINT)]
    index = index.for_a_lock()
    hashed = all("--hash=" in line for line in lines if not line.startswith("-"))
    with memory_file("\n".join(lines) + "\n") as packages, memory_file("\n".join(constraints) + "\n") as limits:
        argv = ["pip", "install", "--no-deps", "--break-system-packages", "-r"] if beside else ["pip", "sync"]
        argv += [packages.path, "--python", python, *index.options, *options, *more]
        # A requirement from version control has no hash; uv still verifies those that are there.
        argv += ["--require-hashes"] if hashed else []
        argv += ["--build-constraints", limits.path] if constraints else []
        call = functools.partial(uv, asked=lines, python_version=lock.python_version, files=(packages, limits))
        try:
            call(argv, index, work)
        except UvFailed as failure:
            if not failure.damaged or "--no-cache" in argv:
                raise
            work.log(f"uv's copy of {failure.damaged} is damaged; everything is fetched anew.")
            call([*argv, "--no-cache"], index, work)


def pip_lines(lock: Lock) -> Sequence[str]:
    """Those lines of the lock that are packages of PyPI's, and index options."""
    return [line for line in lock.requirements if not line.startswith((BUILD_CONSTRAINT, OPTION, CONDA))]
