"""The folder of unpacked conda packages: what no environment is linked to any more can go."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time

from windlassd.envs._flock import held_if_free

_YOUNG_S = 600.0
"""A package that was unpacked so recently may be about to be linked."""
_OLD_S = 30 * 86400.0
"""What a channel had so long ago is of no use: it is compared with the channel whenever that is asked."""


def folder(root: str) -> str:
    """Where the conda builder of the cache at ``root`` keeps packages, and what channels have."""
    return os.path.join(root, "conda")


def drop_unused(root: str) -> None:
    """Delete packages that no environment of the cache at ``root`` shares files with; they can be had again."""
    packages = os.path.join(folder(root), "packages")
    if not os.path.isdir(packages):
        return
    for entry in list(os.scandir(packages)):
        if not entry.is_dir(follow_symlinks=False) or time.time() - _changed(entry.path) < _YOUNG_S:
            continue
        with held_if_free(entry.path + ".lock") as mine:  # rattler's own lock of the package
            if mine and not _is_linked(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def sweep_channels(root: str, now: float) -> None:
    """Delete what channels had when they were asked last, long ago; whoever asks again gets it anew."""
    known = os.path.join(folder(root), "repodata")
    if not os.path.isdir(known):
        return
    groups: dict[str, list[str]] = {}
    for entry in os.scandir(known):
        groups.setdefault(entry.name.split(".")[0], []).append(entry.path)
    for paths in groups.values():
        if now - max(map(_newest, paths)) < _OLD_S:
            continue
        for path in paths:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(FileNotFoundError):  # another server sweeps as well
                    os.unlink(path)


def _newest(path: str) -> float:
    inside = (os.path.join(place, name) for place, _, names in os.walk(path) for name in names)
    return max(_changed(name) for name in (path, *inside))


def _is_linked(package: str) -> bool:
    """False also for one that vanishes meanwhile."""
    for place, _, names in os.walk(package):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(os.path.join(place, name)).st_nlink > 1:
                    return True
    return False


def _changed(path: str) -> float:
    """When it was changed last, Unix seconds; infinitely long ago for what is gone."""
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return -math.inf
