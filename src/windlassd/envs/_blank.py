"""Virtual environments with nothing in them: uv makes the first for an interpreter, the next are copies of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class _Entry:
    mode: int
    """Permissions of a file or folder."""
    content: bytes | None = None
    """Of a file."""
    target: str | None = None
    """Of a link."""


class Blanks:
    """Kept in memory, so that there is nothing on disk to go stale. Methods may be called from any thread.

    A relocatable environment does not say where it lies; a copy takes a tenth of the time that uv needs for a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, Mapping[str, _Entry]] = {}

    def make(self, python: str, prefix: str, new: Callable[[], object]) -> None:
        """Make one at ``prefix``, which is empty or not there.

        Args:
            python: Absolute path of the interpreter; when its file changes, it counts as another one.
            prefix: Where to.
            new: Makes one there without help from here.
        """
        key = _state(python)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None:
            _write(prefix, kept)
            return
        new()
        found = dict(_read(prefix))
        with self._lock:
            self._kept[key] = found


def _state(python: str) -> object:
    try:
        state = os.stat(python)
    except OSError:
        return object()  # equal to no other: whoever makes a new one says what is wrong with the interpreter
    return python, state.st_ino, state.st_mtime_ns, state.st_size


def _read(prefix: str) -> Iterator[tuple[str, _Entry]]:
    """Path in ``prefix`` and what lies there, folders before what is in them."""
    for folder, names, files in os.walk(prefix):
        for name in sorted((*names, *files)):
            path = os.path.join(folder, name)
            yield os.path.relpath(path, prefix), _entry(path)


def _entry(path: str) -> _Entry:
    mode = os.lstat(path).st_mode & 0o777
    if os.path.islink(path):
        return _Entry(mode, target=os.readlink(path))
    if os.path.isdir(path):
        return _Entry(mode)
    with open(path, "rb") as f:
        return _Entry(mode, content=f.read())


def _write(prefix: str, entries: Mapping[str, _Entry]) -> None:
    os.makedirs(prefix, exist_ok=True)
    for name, entry in entries.items():
        path = os.path.join(prefix, name)
        if entry.target is not None:
            os.symlink(entry.target, path)
        elif entry.content is None:
            os.mkdir(path)
            os.chmod(path, entry.mode)
        else:
            with open(path, "xb") as f:
                f.write(entry.content)
                os.chmod(f.fileno(), entry.mode)
