"""The commit, branch and dirty flag of a source folder, read without slowing ``submit``."""

from __future__ import annotations

import os
import subprocess
from typing import Dict, Optional, Tuple

_STATUS_TIMEOUT_S = 2.0
_STATUS = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "status", "--porcelain", "-z", "--", ".")


class GitState:
    """What git knows of a folder. ``git status`` runs beside the caller's own work; ``read`` collects it."""

    def __init__(self, folder: str) -> None:
        self._git_dir = _find_git_dir(folder)
        self._status: "Optional[subprocess.Popen[bytes]]" = None
        if self._git_dir is not None:
            try:
                self._status = subprocess.Popen(
                    _STATUS, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            except OSError:  # no git program: commit and branch come from the files alone
                self._status = None

    def read(self) -> "Dict[str, str]":
        """``commit``, ``branch`` and ``dirty`` ("true" or "false"), as far as known; empty outside a work tree."""
        found: "Dict[str, str]" = {}
        if self._git_dir is None:
            return found
        commit, branch = _head(self._git_dir)
        if commit:
            found["commit"] = commit
        if branch:
            found["branch"] = branch
        dirty = self._dirty()
        if dirty is not None:
            found["dirty"] = "true" if dirty else "false"
        return found

    def _dirty(self) -> "Optional[bool]":
        if self._status is None:
            return None
        try:
            said = self._status.communicate(timeout=_STATUS_TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:  # a huge work tree: unknown is better than a slow submit
            self._status.kill()
            self._status.communicate()
            return None
        return bool(said) if self._status.returncode == 0 else None

    def close(self) -> None:
        """End ``git status`` when nobody will ask for its answer."""
        if self._status is not None and self._status.poll() is None:
            self._status.kill()
        if self._status is not None:
            self._status.communicate()


def _find_git_dir(folder: str) -> "Optional[str]":
    """The git directory of the work tree that holds ``folder``, or None."""
    place = os.path.abspath(folder)
    while True:
        candidate = os.path.join(place, ".git")
        if os.path.isdir(candidate):
            return candidate
        if os.path.isfile(candidate):  # a linked work tree or submodule
            line = _read(candidate)
            if line.startswith("gitdir:"):
                return os.path.normpath(os.path.join(place, line[7:].strip()))
        parent = os.path.dirname(place)
        if parent == place:
            return None
        place = parent


def _head(git_dir: str) -> "Tuple[str, str]":
    head = _read(os.path.join(git_dir, "HEAD"))
    if not head.startswith("ref:"):
        return head, ""
    ref = head[4:].strip()
    branch = ref[len("refs/heads/") :] if ref.startswith("refs/heads/") else ref
    shared = _read(os.path.join(git_dir, "commondir"))
    common = os.path.normpath(os.path.join(git_dir, shared)) if shared else git_dir
    for folder in (git_dir, common):
        commit = _read(os.path.join(folder, *ref.split("/")))
        if commit:
            return commit, branch
    for line in _read(os.path.join(common, "packed-refs")).splitlines():
        if line.endswith(" " + ref):
            return line.split(" ", 1)[0], branch
    return "", branch


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""
