"""The CPython interpreters of this machine, found by absolute path (never by a shim), and the choice among them."""

from __future__ import annotations

import functools
import glob
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from windlass import settings
from windlassd.envs._layout import read_json, stamp, write_json
from windlassd.envs.base import EnvironmentFailed

OLDEST = (3, 7)
_NEWEST_MINOR = 18
_PROBE = (
    "import json, sys; print(json.dumps([sys.implementation.name, '%d.%d.%d' % sys.version_info[:3], "
    "sys.version_info.releaselevel]))"
)
_PROBE_TIMEOUT_S = 20.0
_NAME = re.compile(r"python(\d(\.\d+)?)?\Z")
_CLAUSE = re.compile(r"(==|=|>=|<=|!=|~=|>|<)?\s*v?(\d+(?:\.\d+){0,2})(\.\*|\*)?\Z")
_RUNNING = "{}.{}.{}".format(*sys.version_info[:3])
_at_start: dict[str, str] = {}
"""Path of this process's interpreter → what tells it from another one."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interpreter:
    """One interpreter that jobs can run on."""

    path: str
    """Absolute, with links resolved."""
    version: str
    """``major.minor.micro``."""
    implementation: str
    """``cpython``."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparing."""
        return _numbers(self.version)


def own() -> Interpreter:
    """The interpreter under this process's own virtual environment, as it is on disk now."""
    path = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    now = stamp(path)
    if now is not None and _at_start.setdefault(path, now) != now:
        return _upgraded(path, now)
    return Interpreter(path, _RUNNING, sys.implementation.name)


@functools.lru_cache(maxsize=4)
def _upgraded(path: str, now: str) -> Interpreter:
    """The interpreter whose file is another one since this process started; environments are built on that."""
    answer = probe(path)
    if isinstance(answer, str):
        _logger.warning("the interpreter %s was replaced and does not work: %s", path, answer)
        return Interpreter(path, _RUNNING, sys.implementation.name)
    return Interpreter(path, *answer)


def probe(path: str) -> tuple[str, str] | str:
    """(version, implementation) of the interpreter at ``path``, learned by running it; else why it does not run."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env=settings.child_environment(("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")),
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {_PROBE_TIMEOUT_S:g} s"
    except OSError as e:
        return f"it does not start: {e.strerror}"
    try:
        implementation, version, _ = json.loads(done.stdout)
        return str(version), str(implementation)
    except ValueError:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return f"it exits with status {done.returncode}" + (f": {lines[-1]}" if lines else "")


class Interpreters:
    """What was found, remembered by path and modification time in memory and in one file.

    Args:
        memory_file: Path of that file; a restart then runs no interpreter that it knows.
    """

    def __init__(self, memory_file: str) -> None:
        self._file = memory_file
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None

    def available(self) -> Sequence[Interpreter]:
        """CPython 3.7 and newer on this machine, newest first; at one version windlassd's own comes first."""
        with self._lock:
            if self._known is None:
                self._known = dict(read_json(self._file) or {})
            paths = _candidates()
            if new := [path for path in paths if not self._knows(path)]:
                self._known = {path: known for path, known in self._known.items() if os.path.exists(path)}
                with ThreadPoolExecutor(os.cpu_count()) as pool:  # the first run of a home waits for this
                    self._known |= zip(new, pool.map(_asked, new), strict=True)
                write_json(self._file, self._known, os.path.dirname(self._file))
            found = {path: self._known_as(path) for path in paths}
        mine = own()
        usable = [item for item in found.values() if item and item.path != mine.path]
        return sorted([mine, *usable], key=lambda item: (item.numbers, item == mine), reverse=True)

    def fitting(self, wanted: str | None) -> Sequence[Interpreter]:
        """The interpreters for a version such as ``3.9``, ``3.9.18`` or ``>=3.8,<3.11``; one per minor version.

        Newest first; of one minor version windlassd's own, else the newest. Empty when none fits.

        Raises:
            EnvironmentFailed: ``wanted`` is no version.
        """
        by_minor: dict[tuple[int, ...], Interpreter] = {}
        mine = own()
        for item in self.available():
            fitting = wanted is None or fits(item.numbers, wanted)
            if fitting and (item == mine or item.numbers[:2] not in by_minor):
                by_minor[item.numbers[:2]] = item
        return list(by_minor.values())

    def _knows(self, path: str) -> bool:
        known = (self._known or {}).get(path)
        return isinstance(known, list) and len(known) == 4 and known[:2] == _stamp(path)

    def _known_as(self, path: str) -> Interpreter | None:
        """What is remembered of ``path``; None when jobs cannot use it."""
        _, _, version, implementation = (self._known or {})[path]
        if implementation != "cpython" or _numbers(version)[:2] < OLDEST:
            return None
        return Interpreter(path, version, implementation)


def fits(version: tuple[int, ...], wanted: str) -> bool:
    """Whether a version satisfies all comma-separated clauses of ``wanted``; a bare ``3.9`` means any 3.9.

    Raises:
        EnvironmentFailed: ``wanted`` is no version.
    """
    return all(_fits_one(version, clause.strip(), wanted) for clause in wanted.split(","))


def any_python() -> Sequence[Interpreter]:
    """Stand-ins for Pythons that a channel or an image may have: which they are is known when it is asked."""
    return [Interpreter("", f"3.{minor}.0", "cpython") for minor in range(OLDEST[1], _NEWEST_MINOR + 1)]


def too_old(wanted: str) -> str | None:
    """Why ``wanted`` is refused when it names a Python below the oldest that jobs can run on, such as ``3.6``."""
    for clause in wanted.split(","):
        match = _CLAUSE.match(clause.strip())
        if match and match.group(1) in (None, "=", "==", "~=") and (*_numbers(match.group(2)), OLDEST[1])[:2] < OLDEST:
            return f"Python {wanted} is asked for, and jobs run on Python {OLDEST[0]}.{OLDEST[1]} and newer"
    return None


def _fits_one(version: tuple[int, ...], clause: str, wanted: str) -> bool:
    match = _CLAUSE.match(clause)
    if not match:
        raise EnvironmentFailed(f"{wanted!r} is no Python version.", "Write it like '3.9', '3.9.18' or '>=3.8,<3.11'.")
    operator, number = match.group(1) or "=", _numbers(match.group(2))
    padded = (*number, 0, 0)[:3]
    same = version[: len(number)] == number
    if operator == "~=":
        return version >= padded and version[: len(number) - 1] == number[:-1]
    if operator in ("=", "=="):
        return same
    if operator == "!=":
        return not same
    above, equal = version > padded, version == padded
    return {">": above, ">=": above or equal, "<": not above and not equal, "<=": not above}[operator]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _asked(path: str) -> list[Any]:
    """What to remember of the interpreter at ``path``, learned by running it."""
    stamp, result = _stamp(path), probe(path)
    if isinstance(result, str):
        _logger.info("Interpreter %s is left out: %s", path, result)
    return [*stamp, *(("", "") if isinstance(result, str) else result)]


def _stamp(path: str) -> list[int]:
    state = os.stat(path)
    return [state.st_mtime_ns, state.st_size]


def _candidates() -> Sequence[str]:
    """Real paths of executables that look like interpreters, each once."""
    found: dict[str, None] = {}
    for folder in dict.fromkeys(map(os.path.realpath, dict.fromkeys(_folders()))):  # PATH has many of them twice
        try:
            names = sorted(name for name in os.listdir(folder) if _NAME.match(name))
        except OSError:
            continue
        for name in names:
            path = os.path.realpath(os.path.join(folder, name))
            if path not in found and _is_program(path):
                found[path] = None
    return list(found)


def _folders() -> Iterator[str]:
    env = settings.child_environment()
    path = [entry for entry in env.get("PATH", "").split(os.pathsep) if os.path.isabs(entry)]
    user = os.path.expanduser("~")
    roots = [env.get("PYENV_ROOT", ""), os.path.join(user, ".pyenv")]
    # A job or service may run without HOME; then a pyenv shim folder on PATH tells where pyenv is.
    roots += [os.path.dirname(entry) for entry in path if os.path.basename(entry.rstrip("/")) == "shims"]
    for root in roots:
        if os.path.isabs(root):
            yield from sorted(glob.glob(os.path.join(glob.escape(root), "versions", "*", "bin")))
    data = env.get("XDG_DATA_HOME") or os.path.join(user, ".local", "share")
    managed = env.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")
    yield from sorted(glob.glob(os.path.join(glob.escape(managed), "*", "bin")))
    yield from path
    yield from ("/usr/local/bin", "/usr/bin")


def _is_program(path: str) -> bool:
    """True for a machine-code executable: a shim is a script, which answers for another interpreter or none."""
    try:
        with open(path, "rb") as f:
            return f.read(4) == b"\x7fELF" and os.access(path, os.X_OK)
    except OSError:
        return False
