"""The Pythons that uv can download: what there is, and fetching one into the place where uv keeps its own."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from windlass import settings
from windlassd.envs._flock import held
from windlassd.envs._index import index_settings, uv_files
from windlassd.envs._process import run
from windlassd.envs._uv import program
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import OLDEST, Interpreter, Interpreters, fits
from windlassd.envs.target import Target

_LIST_TIMEOUT_S = 20.0
_REMEMBERED_S = 600.0
"""A list of the user's own, named by UV_PYTHON_DOWNLOADS_JSON_URL, may change."""
_BOUNDS = {"UV_HTTP_RETRIES": "1", "UV_HTTP_CONNECT_TIMEOUT": "5"}
"""Without network uv alone would go on for more than ten seconds."""
_FORBIDDING = ("never", "manual", "false", "0")
_FINAL = re.compile(r"\d+\.\d+\.\d+\Z")
_CAUSE = re.compile(r"^\s*cause: (.+)$", re.MULTILINE)
_HOST = re.compile(r"https?://(?:[^/\s@]*@)?([^/\s)`]+)")


@dataclass(frozen=True)
class Download:
    """A CPython that uv can download."""

    version: str
    """``major.minor.micro``."""
    key: str
    """uv's name of it, such as ``cpython-3.9.25-linux-x86_64-gnu``."""
    wheels_for: str | None = None
    """As with ``Planned``."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparing."""
        return tuple(map(int, self.version.split(".")))


class Downloads:
    """What uv can download. Methods may be called from any thread.

    Args:
        installed: What is on the machine; it is to know what was downloaded.
        lock_folder: Where the files lie by which one download of a version is waited for by all who want it.
        target: For where; None: for this machine. For others there is a list, and no ``fetch``.
    """

    def __init__(self, installed: Interpreters, lock_folder: str, target: Target | None = None) -> None:
        self._installed = installed
        self._folder = lock_folder
        self._target = target
        self._lock = threading.Lock()
        self._known: tuple[object, float, Sequence[Download]] | None = None

    def available(self) -> Sequence[Download]:
        """Releases of CPython 3.7 and newer, newest first; none where downloads are not allowed.

        The first call asks uv (some 50 ms), later ones remember.
        """
        if forbidden():
            return ()
        env = _environment()
        own_list = env.get("UV_PYTHON_DOWNLOADS_JSON_URL", "")
        with self._lock:
            now = time.monotonic()
            if self._known is None or self._known[0] != own_list or now - self._known[1] > _REMEMBERED_S:
                self._known = (own_list, now, _listed(env, self._target))
            return self._known[2]

    def fitting(self, wanted: str | None) -> Sequence[Download]:
        """The newest of each minor version that fits ``wanted``, newest first."""
        newest: dict[tuple[int, ...], Download] = {}
        for item in self.available():
            if wanted is None or fits(item.numbers, wanted):
                newest.setdefault(item.numbers[:2], item)
        return list(newest.values())

    def fetch(self, download: Download, work: Work) -> Interpreter:
        """The interpreter, downloaded unless somebody else just did, and started once.

        Raises:
            EnvironmentFailed: it cannot be downloaded or does not run; says why.
            EnvironmentStopped: ``work.stop`` was set.
        """
        os.makedirs(self._folder, exist_ok=True)
        lock = os.path.join(self._folder, f".python-{download.version}.lock")
        waiting = functools.partial(work.log, f"Waiting for the download of Python {download.version} under way.")
        with held(lock, work.stop, waiting):
            found = self._find(download)
            if found is None:
                _download(download, work)
                found = self._find(download)
        if found is None:
            raise EnvironmentFailed(
                f"Python {download.version} was downloaded, but is none that runs here.",
                f"Remove it (uv python uninstall {download.key}), or install that Python in another way.",
            )
        return found

    def _find(self, download: Download) -> Interpreter | None:
        return next((item for item in self._installed.available() if item.version == download.version), None)


def forbidden() -> str | None:
    """The name of what forbids downloads; None where they are allowed."""
    if settings.get("python_downloads") == "never":
        return "the setting python_downloads (WINDLASS_PYTHON_DOWNLOADS)"
    env = settings.child_environment()
    if env.get("UV_PYTHON_DOWNLOADS", "").lower() in _FORBIDDING:
        return "UV_PYTHON_DOWNLOADS"
    if env.get("UV_OFFLINE", "").lower() in ("1", "true"):
        return "UV_OFFLINE"
    return next((path for path in uv_files(env) if _file_forbids(path)), None)


def _file_forbids(path: str) -> bool:
    if not path.endswith(".toml") or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as f:
            found = tomllib.load(f)
    except (OSError, ValueError):
        return False  # uv itself tells what is wrong with it
    return str(found.get("python-downloads", "")).lower() in _FORBIDDING or found.get("offline") is True


def _environment() -> dict[str, str]:
    """uv's environment for this alone: everywhere else it must not download."""
    env = dict(index_settings().environment)
    mine = settings.child_environment()
    env.update({name: value for name, value in mine.items() if name.startswith("UV_PYTHON_")})
    env["UV_PYTHON_DOWNLOADS"] = "manual"
    return {**_BOUNDS, **env}


def _listed(env: Mapping[str, str], target: Target | None) -> Sequence[Download]:
    argv = [program(), "python", "list", "--only-downloads", "--all-versions", "--output-format", "json"]
    argv += ["--all-platforms", "--all-arches"] if target else []
    try:
        done = subprocess.run(argv, env=dict(env), cwd="/", capture_output=True, timeout=_LIST_TIMEOUT_S,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        found = sorted(_releases(json.loads(done.stdout), target), key=lambda item: item.numbers, reverse=True)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ()
    return found


def _releases(entries: Sequence[Mapping[str, object]], target: Target | None) -> Iterator[Download]:
    kind = ("linux", target.machine, "gnu" if target.glibc else "musl") if target else None
    for entry in entries:
        if kind not in (None, (entry.get("os"), entry.get("arch"), entry.get("libc"))):
            continue
        version = str(entry.get("version"))
        if entry.get("implementation") != "cpython" or entry.get("variant") != "default" or not _FINAL.match(version):
            continue
        item = Download(version, str(entry.get("key")), target.uv_platform if target else None)
        if item.numbers[:2] >= OLDEST:
            yield item


def _download(download: Download, work: Work) -> None:
    work.log(f"Python {download.version} is not on this machine; uv downloads it.")
    env, index = _environment(), index_settings()

    def tell(line: str) -> None:
        if line.startswith(("Downloading", "Installed")):
            work.log(index.mask(line))

    # Under uv's own name, so that no other build of the version is taken; no link of it in the user's ~/.local/bin.
    done = run([program(), "python", "install", "--no-bin", download.key], env, work, on_line=tell)
    if done.code == 0:
        return
    reason = _reason(index.mask(done.err)) if done.code > 0 else f"uv was ended by signal {-done.code}"
    raise EnvironmentFailed(
        f"Python {download.version} is not on this machine, and uv could not download it: {reason}.",
        "Check the network (UV_PYTHON_INSTALL_MIRROR names another place to download from), or install that Python.",
        transient=True,
    )


def _reason(error: str) -> str:
    """The innermost cause that uv names, and the host it wanted."""
    text = " ".join(error.rpartition("error: ")[2].split())
    causes = _CAUSE.findall(error)
    changed = next((cause for cause in causes if cause.startswith("Hash mismatch")), None)
    if changed:
        return "what came is not what uv's list names (its hash differs)"
    host = _HOST.search(error)
    at = f"{host.group(1)}: " if host else ""
    return at + (causes[-1].strip() if causes else text[-300:]).rstrip(".")
