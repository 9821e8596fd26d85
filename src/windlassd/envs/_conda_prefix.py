"""A locked conda prefix made in one folder for use at another: rattler's part, uv's part, activation, a look at it."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Sequence

from windlassd.envs import _conda_activation
from windlassd.envs._conda_channels import channel_settings
from windlassd.envs._conda_solve import Rattler, conda_lines
from windlassd.envs._health import wrong_with_python
from windlassd.envs._index import IndexSettings, index_settings
from windlassd.envs._install import install as install_pip
from windlassd.envs._install import pip_lines
from windlassd.envs._requirements import requirement_name
from windlassd.envs._uv import run_uv
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import EnvironmentFailed, Lock, Work

_UNMET = re.compile(r"package `([^`]+)` requires `([^`]+)`, but `?([^`]+?)`? is installed")
_FIRST_LINES = 600


def install(rattler: Rattler, lock: Lock, folder: str, final: str, work: Work) -> None:
    """Make the prefix of ``lock`` in the empty ``folder``; it works completely once that lies at ``final``.

    Args:
        rattler: With the package cache to take from; files are hard links to it where the file system allows.
        lock: Of the conda builder.
        folder: Where files are written.
        final: Absolute path that is written into files, such as ``/opt/environment`` of an image.
        work: Where lines go, and when to give up.

    Raises:
        EnvironmentFailed: a package cannot be had or does not fit the others.
        EnvironmentStopped: ``work.stop`` was set.
    """
    link(rattler, lock, folder, final, work)
    if pip_lines(lock):
        index = index_settings()
        modes = () if "UV_LINK_MODE" in index.environment else ("--link-mode", "hardlink")
        add_pip(lock, os.path.join(folder, lock.python), index, work, *modes)
        _move_scripts(os.path.join(folder, "bin"), folder, final)
    _conda_activation.write(folder, final, work)


def link(rattler: Rattler, lock: Lock, folder: str, final: str, work: Work) -> None:
    """Put the conda packages of ``lock`` into the empty ``folder``; arguments and errors as for ``install``."""
    conda = conda_lines(lock.requirements)
    work.log(f"Installing {len(conda)} packages from conda channels.")
    for name in rattler.install(conda, folder, final, channel_settings(), work):
        work.log(f"{name}: the script that it would run after it is linked was not run; what that does is missing.")


def add_pip(
    lock: Lock, python: str, index: IndexSettings, work: Work, *more: str, uv: Callable[..., str] = run_uv
) -> None:
    """uv's part. What the channels brought stays as it is; a requirement that it does not meet is an error.

    Args:
        lock: What to install.
        python: Path of the prefix's interpreter, for ``uv``.
        index: The settings in force.
        work: Where lines go, and when to give up.
        more: Options for uv.
        uv: Runs it, as ``run_uv`` does.

    Raises:
        EnvironmentFailed: a package cannot be had or does not fit the others.
    """
    install_pip(lock, python, index, work, *more, uv=uv, beside=True)
    _refuse_unmet(pip_lines(lock), python, functools.partial(uv, index=index, work=work))


def wrong_with(lock: Lock, python: str, prefix: str, work: Work) -> str | None:
    """None when the prefix runs and has what the lock names, else what is wrong with it."""
    if wrong := wrong_with_python(python, lock, prefix, work):
        return wrong
    wanted = len(conda_lines(lock.requirements))
    linked = sum(name.endswith(".json") for name in os.listdir(os.path.join(prefix, "conda-meta")))
    if linked < wanted:
        return f"{linked} of {wanted} conda packages are there"
    return None


def _refuse_unmet(packages: Sequence[str], python: str, uv: Callable[..., str]) -> None:
    """Raise EnvironmentFailed where a package of PyPI's needs another version of what the channels brought."""
    try:
        uv(["pip", "check", "--python", python], asked=(), python_version="", quiet=True)
    except UvFailed as failure:
        unmet = _UNMET.findall(failure.said)
    else:
        return
    ours = {requirement_name(line) for line in packages}
    for who, what, version in unmet:
        name = requirement_name(what)
        if requirement_name(who) in ours and name not in ours:
            raise EnvironmentFailed(
                f"The package {who!r} from PyPI needs {what!r}, and the conda channels brought {name} {version}, which "
                "other conda packages need.",
                f"Add {name!r} with a version that suits both to conda_packages, or loosen the version of {who!r}.",
            )


def _move_scripts(folder: str, made_in: str, final: str) -> None:
    """Let the scripts that uv wrote name the interpreter by its final path; files are replaced, never changed."""
    here, there = os.fsencode(os.path.join(made_in, "bin", "")), os.fsencode(os.path.join(final, "bin", ""))
    for entry in os.scandir(folder):
        if not entry.is_file(follow_symlinks=False):
            continue
        with open(entry.path, "rb") as f:
            head = f.read(_FIRST_LINES)
            if not head.startswith(b"#!") or here not in head:
                continue
            rest = f.read()
        beside = entry.path + ".new"
        with open(beside, "wb") as f:
            f.write(head.replace(here, there) + rest)
        shutil.copymode(entry.path, beside)
        os.replace(beside, entry.path)
