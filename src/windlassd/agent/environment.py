"""The environment of a run on a node elsewhere: found or made in the node's own cache, from what the server resolved.

Agents of one node share the cache: what several need at once is built once, and the others wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TextIO

from windlass.specs._codec import known_fields, to_wire
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import EnvironmentLaunch, LaunchSpec
from windlassd.agent.engines import StartRefused
from windlassd.agent.sources import Sources
from windlassd.blobs.run_folder import BUILD_LOG, LIVE, RunFolder
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Lock, Ready
from windlassd.envs.cache import EnvironmentCache, Use
from windlassd.envs.target import platform_name


@dataclass(frozen=True)
class Call:
    """One part that needs an environment.

    Args:
        launch: Whose ``environment`` is to be made.
        folder: Of the part; the log goes there.
        home: This machine's ``WINDLASS_HOME``.
        stop: Set when the part is to end; the work then ends soon.
        sources: Where the files come from that a Dockerfile copies.
        begins: Called when something has to be resolved, downloaded or built.
    """

    launch: LaunchSpec
    folder: RunFolder
    home: str
    stop: threading.Event
    sources: Sources
    begins: Callable[[], None]

    def ready(self) -> tuple[LaunchSpec, dict[str, Any]]:
        """The launch with its interpreter and container, and what the environment is; it stays until ``release``.

        Raises:
            StartRefused: it cannot be made here, or ``stop`` was set.
        """
        try:
            return self._ready()
        except EnvironmentFailed as problem:
            said = problem.message.replace("where the server runs", "on that machine")  # written for builds of its own
            words = f"its environment cannot be made there, with that machine's own settings. {said}"
            raise StartRefused(words, error_code=EnvironmentFailed.error_code) from problem
        except EnvironmentStopped as problem:
            raise StartRefused(problem.message) from problem

    def _ready(self) -> tuple[LaunchSpec, dict[str, Any]]:
        asked = self.launch.environment
        assert asked
        cache, use = _cache(self.home), _use(self.launch, self.folder)
        lock = _lock(asked)
        found = cache.find_locked(lock, use) if lock else cache.find(asked.spec, use)
        if found is None:
            self.begins()
            found = self._made(cache, asked.spec, lock, use)
        container = self.launch.container
        if container and found.image and found.engine:
            container = replace(container, image=found.image, engine=found.engine)
        launch = replace(self.launch, python=found.python, container=container if found.image else None)
        return launch, {**to_wire(found), "platform": platform_name()}

    def _made(self, cache: EnvironmentCache, spec: EnvironmentSpec, lock: Lock | None, use: Use) -> Ready:
        with _log(self.launch, self.folder) as out:

            def say(line: str) -> None:
                out.write(line + "\n")
                out.flush()

            try:
                while True:
                    made = (
                        cache.from_lock(spec, lock, say, self.stop, lambda: (use,))
                        if lock
                        else self._prepared(cache, spec, say, use)
                    )
                    if made.in_place or cache.hold(made.key, use):
                        return made  # else it was removed between the end of the build and now
            except EnvironmentFailed as problem:
                say(problem.message)
                raise

    def _prepared(self, cache: EnvironmentCache, spec: EnvironmentSpec, say: Callable[[str], None], use: Use) -> Ready:
        """Resolved here, too: by a cache of its own, since a Dockerfile's files come from this part's workspace."""
        own = EnvironmentCache(cache.root)
        own.unpack = self._unpack
        with contextlib.closing(own):
            return own.prepare(spec, say, self.stop, lambda: (use,))

    def _unpack(self, snapshot_id: str, folder: str) -> None:
        """Put the files of a snapshot into the empty ``folder``."""
        with tempfile.TemporaryDirectory(dir=self.folder.agent, prefix="context.") as beside:
            aside = RunFolder(beside, "context")
            self.sources.lay_out(snapshot_id, aside, lambda: not self.stop.is_set())
            for name in LIVE:  # which a working folder has besides
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.join(aside.work, name))
            for name in os.listdir(aside.work):
                os.replace(os.path.join(aside.work, name), os.path.join(folder, name))


def release(launch: LaunchSpec, folder: RunFolder, home: str) -> None:
    """The part has ended and needs its environment no more."""
    _cache(home).release(_use(launch, folder))


def log_name(launch: LaunchSpec) -> str:
    """Name of the log of what is made on this node; the one without a number is the server's."""
    stem, suffix = os.path.splitext(BUILD_LOG)
    return f"{stem}_{launch.node_rank}{suffix}"


@functools.lru_cache(maxsize=4)
def _cache(home: str) -> EnvironmentCache:
    """The cache of this machine; what earlier agents left undone in it is done in the background."""
    cache = EnvironmentCache(os.path.join(home, "environments"))
    cache.start()
    return cache


def _use(launch: LaunchSpec, folder: RunFolder) -> Use:
    return Use(folder.workspace_dir, f"{launch.run_id}.{launch.attempt}.{launch.node_rank}")


def _lock(asked: EnvironmentLaunch) -> Lock | None:
    """None where it is to be resolved here."""
    if not asked.lock:
        return None
    values = known_fields(Lock, asked.lock)
    return Lock(**{**values, "requirements": tuple(values["requirements"]), "notes": tuple(values["notes"])})


@contextlib.contextmanager
def _log(launch: LaunchSpec, folder: RunFolder) -> Iterator[TextIO]:
    with open(folder.log(log_name(launch)), "a", encoding="utf-8") as out:
        yield out
