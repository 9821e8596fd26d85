"""Which runs need which environment, in files, so that it holds over the death of the server that wrote them.

::

    <root>/uses/<hash of the workspace's folder>/
      .workspace   → the workspace's folder; when that is gone, its runs are too
      <run id>     → ../../built/<key>, from before the run gets the environment until it has ended

A run goes on under its agent when its server is killed, and one that waits is taken up by the next server. So a note
counts until a server of its workspace has seen the end of the run, however long no such server lives.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

_WORKSPACE = ".workspace"
_LONGEST = 200
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Use:
    """A run that needs an environment."""

    workspace: str
    """Absolute path of its workspace's folder."""
    run_id: str


class Uses:
    """The notes under ``<root>/uses``. Methods may be called from any thread."""

    def __init__(self, root: str) -> None:
        self._folder = os.path.join(root, "uses")

    def add(self, key: str, use: Use) -> None:
        """Note that the run needs the environment ``key``, and none other any more.

        The caller holds the lock of ``key``, shared at least, and looks afterwards whether the environment is there.
        """
        try:
            self._add(self._path(use), os.path.join("..", "..", "built", key), use)
        except OSError as problem:
            if problem.errno not in _FULL:
                raise
            # Where nothing can be written nothing is built either, for which something would have to make room.
            _logger.warning("that %s uses environment %s cannot be noted: %s", use.run_id, key, problem)

    def remove(self, use: Use) -> None:
        """The run needs none any more."""
        _unlink(self._path(use))

    def keep_only(self, workspace: str, active: Callable[[], Collection[str]]) -> None:
        """Forget the runs of the workspace that are not in ``active``, which is asked after they were listed."""
        self._clear_leftovers()
        folder = os.path.join(self._folder, _hash(workspace))
        listed = [name for name in _names(folder) if name != _WORKSPACE]
        names = {_name(run_id) for run_id in active()} if listed else set()
        for name in listed:
            if name not in names:
                _unlink(os.path.join(folder, name))

    def by_key(self) -> dict[str, list[Use]]:
        """The runs that need each environment; workspaces that are gone are forgotten."""
        found: dict[str, list[Use]] = {}
        for folder in (os.path.join(self._folder, name) for name in _names(self._folder) if not name.startswith(".")):
            workspace = _target(os.path.join(folder, _WORKSPACE))
            if workspace is None or not os.path.isdir(workspace):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for name in _names(folder):
                if name != _WORKSPACE and (target := _target(os.path.join(folder, name))):
                    found.setdefault(os.path.basename(target), []).append(Use(workspace, name))
        return found

    def of(self, key: str) -> list[Use]:
        """The runs that need the environment ``key``."""
        return self.by_key().get(key, [])

    def _add(self, path: str, target: str, use: Use) -> None:
        for _ in range(2):
            try:
                os.symlink(target, path)
                return
            except FileNotFoundError:
                self._make(use.workspace)
            except FileExistsError:
                if _target(path) == target:
                    return
                self.remove(use)
        os.symlink(target, path)

    def _path(self, use: Use) -> str:
        return os.path.join(self._folder, _hash(use.workspace), _name(use.run_id))

    def _make(self, workspace: str) -> None:
        """The workspace's folder; it appears with what tells whose it is."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        beside = os.path.join(self._folder, f".{os.getpid()}.{secrets.token_hex(6)}")
        os.mkdir(beside, 0o700)
        os.symlink(os.path.abspath(workspace), os.path.join(beside, _WORKSPACE))
        try:
            os.rename(beside, os.path.join(self._folder, _hash(workspace)))
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            if not os.path.isdir(os.path.join(self._folder, _hash(workspace))):
                raise  # else another thread or process was first

    def _clear_leftovers(self) -> None:
        for name in _names(self._folder):
            if name.startswith(".") and not os.path.exists(f"/proc/{name.split('.')[1]}"):
                shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)


def _hash(workspace: str) -> str:
    return hashlib.sha256(os.path.realpath(workspace).encode(errors="surrogateescape")).hexdigest()[:16]


def _name(run_id: str) -> str:
    """A file's name for the run: its id, unless that is too long for one."""
    if len(run_id.encode()) <= _LONGEST:
        return run_id
    return f"{run_id[: _LONGEST // 4]}~{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"


def _names(folder: str) -> Iterator[str]:
    try:
        yield from sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as problem:  # its environment stays longer than it needs to
        _logger.warning("%s stays: %s", path, problem)


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
