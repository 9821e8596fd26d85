"""What follows a build at low priority: bytecode, files on disk, leftovers of dead builds, the size of all.

Nobody waits for it.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from windlass import settings
from windlass.errors import AzureMLException
from windlassd.envs._flock import held_if_free
from windlassd.envs._layout import SETTLED_FILE, Layout, sync_folder, write_json
from windlassd.envs._process import run
from windlassd.envs._sizes import measured
from windlassd.envs.base import Work

_NICE = 19
_TIMEOUT_S = 3600.0
_logger = logging.getLogger(__name__)


@dataclass
class _Job:
    python: str
    stop: threading.Event = field(default_factory=threading.Event)


class Settler:
    """Takes environments one after the other on a thread that lives while there are some.

    Without this an environment works but starts slowly, since nothing else may write bytecode into it. Existing files
    are never changed: they share their contents with uv's cache.
    """

    def __init__(self, layout: Layout, sweep: Callable[[], None], tidy: Callable[[], None]) -> None:
        self._layout = layout
        self._sweep = sweep
        self._tidy = tidy
        self._untidy = False
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, key: str, python: str) -> None:
        """Settle the environment soon, unless that is done or under way."""
        if self._layout.is_settled(key):
            return
        with self._lock:
            if self._closed or key in self._jobs:
                return
            self._jobs[key] = _Job(python)
            self._begin()

    def tidy_soon(self) -> None:
        """Tidy up when all that was added is settled."""
        with self._lock:
            if not self._closed:
                self._untidy = True
                self._begin()

    def stop(self, key: str) -> None:
        """Let go of the environment; it is about to be removed."""
        with self._lock:
            if job := self._jobs.get(key):
                job.stop.set()

    def close(self) -> None:
        """End the thread and what it started; what is not settled is taken up by the next server."""
        with self._lock:
            self._closed, self._untidy = True, False
            thread = self._thread
            for job in self._jobs.values():
                job.stop.set()
        if thread:
            thread.join()

    def join(self) -> None:
        """Return when all that was added is done."""
        with self._lock:
            thread = self._thread
        if thread:
            thread.join()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="windlass-settle", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # Linux: this thread alone
        self._guarded("sweep", self._sweep)
        while True:
            with self._lock:
                key, job = next(iter(self._jobs.items()), (None, None))
                if key is None and not self._untidy:
                    self._thread = None
                    return
                if key is None:
                    self._untidy = False
            if key is None or job is None:
                self._guarded("tidy", self._tidy)
                continue
            if not job.stop.is_set():
                self._guarded(key, functools.partial(self._settle, key, job))
            with self._lock:
                del self._jobs[key]

    def _guarded(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, AzureMLException) as e:
            # Removed meanwhile, stopped, or a full disk: the environment works without.
            _logger.info("After-work on environment %s ended early: %s", what, e)

    def _settle(self, key: str, job: _Job) -> None:
        with held_if_free(self._layout.lock_file("settle-" + key)) as mine:
            if not mine or self._layout.is_settled(key):
                return
            library = os.path.join(self._layout.prefix(key), "lib")
            work = Work(_logger.debug, job.stop, _TIMEOUT_S)
            env = settings.child_environment(("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"))
            done = run([job.python, "-I", "-m", "compileall", "-q", "-r", "99", library], env, work, nice=_NICE)
            if done.code < 0:
                return  # killed from outside; try again another time
            prefix = self._layout.prefix(key)
            _to_disk(prefix, work)
            sync_folder(os.path.dirname(prefix))
            path = os.path.join(prefix, SETTLED_FILE)  # in no other folder, which a sweep may clear at this moment
            write_json(path, {"bytes": measured(prefix).bytes}, f"{path}.{os.getpid()}")


def _to_disk(folder: str, work: Work) -> None:
    """Force every file under ``folder`` to disk; quick for those that are there already."""
    for path, _, names in os.walk(folder):
        work.give_up()
        for name in names:
            try:
                fd = os.open(os.path.join(path, name), os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue  # a link, or gone
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(path)
