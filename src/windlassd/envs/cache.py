"""Environments by content: a request gets a lock, a lock is built once, and what is built is found in milliseconds."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from windlass import settings
from windlass.errors import UserErrorException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import registry
from windlassd.envs._flock import held, held_if_free
from windlassd.envs._layout import FORMAT, Layout, State, boot_id, sync_folder, tree_bytes
from windlassd.envs._settle import Settler
from windlassd.envs.base import Builder, EnvironmentFailed, Lock, Log, Ready, Work


@dataclass(frozen=True)
class BuiltEnvironment:
    """A finished environment in the cache."""

    key: str
    builder: str
    python_version: str
    packages: int
    bytes: int
    """Sum of its files' sizes; files shared with uv's cache or other environments count in full."""
    created: float
    """Unix seconds."""
    used: float
    """Unix seconds of the last time it was found or made for a run."""


class EnvironmentCache:
    """The environments under one folder, shared by all server processes of a home.

    Methods may be called from any thread.

    Args:
        root: ``<WINDLASS_HOME>/environments``; made when missing.
        clock: Unix seconds; decides how old a lock is.
        builder_for: Picks the builder of a spec; raises for what none can do.
    """

    def __init__(
        self,
        root: str,
        *,
        clock: Callable[[], float] = time.time,
        builder_for: Callable[[EnvironmentSpec], Builder] | None = None,
    ) -> None:
        self._layout = Layout(root)
        self._clock = clock
        self._builder_for = builder_for or functools.partial(registry.builder_for, root=self._layout.root)
        self._settler = Settler(self._layout, self.sweep)

    def check(self, spec: EnvironmentSpec) -> None:
        """Raise EnvironmentFailed when no builder can make ``spec`` by its nature; resolves nothing."""
        self._builder_for(spec)

    def find(self, spec: EnvironmentSpec) -> Ready | None:
        """The environment for ``spec`` if nothing has to be resolved or built, else None. Costs milliseconds.

        Raises:
            EnvironmentFailed: no builder can make it, whatever is in the cache.
        """
        started = time.perf_counter()
        builder = self._builder_for(spec)
        return self._found(builder, _request_key(builder, spec), started)

    def prepare(self, spec: EnvironmentSpec, log: Log, stop: threading.Event | None = None) -> Ready:
        """The environment for ``spec``, resolved and built if need be: once, however many threads and processes ask.

        Args:
            spec: What is asked for.
            log: Takes the lines of the build, or one that says what is being waited for.
            stop: Ends the call soon when set.

        Raises:
            EnvironmentFailed: it cannot be made, or was not ready in time.
            EnvironmentStopped: ``stop`` was set.
        """
        ready = self.find(spec)
        if ready is None:
            ready = self._prepared(spec, log, stop or threading.Event(), anew=False)
        if ready.prefix:
            self._settler.add(ready.key, ready.python)
        return ready

    def refresh(self, spec: EnvironmentSpec, log: Log, stop: threading.Event | None = None) -> Ready:
        """As ``prepare``, with versions resolved anew whatever the request got before."""
        ready = self._prepared(spec, log, stop or threading.Event(), anew=True)
        if ready.prefix:
            self._settler.add(ready.key, ready.python)
        return ready

    def list(self) -> Sequence[BuiltEnvironment]:
        """The usable environments, last used first."""
        found = []
        for key in self._layout.built_keys():
            state = self._layout.state(key)
            if state:
                found.append(
                    BuiltEnvironment(
                        key=key,
                        builder=state.builder,
                        python_version=state.python_version,
                        packages=state.packages,
                        bytes=state.bytes,
                        created=state.created,
                        used=self._layout.used(key),
                    )
                )
        return sorted(found, key=lambda item: item.used, reverse=True)

    def touch(self, key: str) -> None:
        """Note that the environment is used now, so that the least used can be told."""
        self._layout.touch(key)

    def remove(self, key: str) -> None:
        """Delete an environment from the cache. The caller sees to it that no run uses it.

        Raises:
            UserErrorException: there is none of that key, or it is being built.
        """
        keys = [item.key for item in self.list()]
        if key not in keys:
            near = [known for known in keys if key and known.startswith(key)]
            hint = f" Did you mean {' or '.join(map(repr, near[:3]))}?" if near else did_you_mean(key, keys)
            raise UserErrorException(
                f"There is no environment {key!r}.{hint} {len(keys)} are there: see the list of environments."
            )
        self._settler.stop(key)
        with held_if_free(self._layout.lock_file(key)) as mine:
            if not mine:
                raise UserErrorException(
                    f"The environment {key!r} is just being built. Cancel the run it is built for, or wait."
                )
            self._layout.discard(key)

    def sweep(self) -> None:
        """Delete what builds left that were killed; live builds are known by their locks."""
        for key, _ in list(self._layout.leftovers()):
            with held_if_free(self._layout.lock_file(key)) as mine:
                if mine:
                    self._layout.clear_leftovers(key)

    def join(self) -> None:
        """Return when the background work on all environments made so far is done."""
        self._settler.join()

    def close(self) -> None:
        """End the background work; a later server takes it up again."""
        self._settler.close()

    def _found(self, builder: Builder, request: str, started: float) -> Ready | None:
        record = self._layout.request(request)
        if record is None or not 0 <= self._clock() - record.made <= settings.get("environment_ttl_s"):
            return None
        if builder.in_place:
            lock = self._layout.lock(record.lock)
            if lock is None or not os.access(lock.python, os.X_OK):
                return None
            return _ready(builder, lock, None, True, started)
        state = self._layout.state(record.lock)
        if state is None:
            return None
        self._layout.touch(record.lock)
        prefix = self._layout.prefix(record.lock)
        return Ready(
            key=record.lock,
            builder=state.builder,
            python=os.path.join(prefix, state.python),
            python_version=state.python_version,
            prefix=prefix,
            cached=True,
            seconds=time.perf_counter() - started,
            notes=record.notes,
        )

    def _prepared(self, spec: EnvironmentSpec, log: Log, stop: threading.Event, *, anew: bool) -> Ready:
        started = time.perf_counter()
        builder = self._builder_for(spec)
        request = _request_key(builder, spec)
        waiting = functools.partial(log, "Waiting for another run that is preparing the same environment.")
        try:
            with held(self._layout.lock_file(request), stop, waiting):
                ready = None if anew else self._found(builder, request, started)
                return ready or self._made(builder, spec, request, _worker(log, stop), started, anew)
        except OSError as e:
            full = e.errno in (errno.ENOSPC, errno.EDQUOT)
            raise EnvironmentFailed(
                f"The environment cannot be written under {self._layout.root}: {e}.",
                "Free some space and submit again." if full else "Check the folder and its owner.",
                transient=full,
            ) from e

    def _made(
        self,
        builder: Builder,
        spec: EnvironmentSpec,
        request: str,
        worker: Callable[[], Work],
        started: float,
        anew: bool,
    ) -> Ready:
        """Resolve unless a good lock is there, and build what is not. The lock of ``request`` is held."""
        lock = None if anew else self._kept_lock(request)
        if lock is None:
            lock = builder.resolve(spec, worker())
            self._layout.clear_leftovers(request)
            self._layout.write_request(request, lock, self._clock())
        if builder.in_place:
            return _ready(builder, lock, None, False, started)
        try:
            self._ensure_built(builder, lock, worker)
        except EnvironmentFailed:
            self._layout.forget_request(request)  # what was locked may be gone from the index
            raise
        return _ready(builder, lock, self._layout.prefix(lock.key), False, started)

    def _kept_lock(self, request: str) -> Lock | None:
        """The lock that the request got earlier, if it is not too old and its interpreter is still there."""
        record = self._layout.request(request)
        if record is None or not 0 <= self._clock() - record.made <= settings.get("environment_ttl_s"):
            return None
        lock = self._layout.lock(record.lock)
        return lock if lock and os.access(lock.python, os.X_OK) else None

    def _ensure_built(self, builder: Builder, lock: Lock, worker: Callable[[], Work]) -> None:
        key, work = lock.key, worker()
        waiting = functools.partial(work.log, f"Waiting for the build of environment {key[:8]} that is under way.")
        with held(self._layout.lock_file(key), work.stop, waiting):
            if self._layout.state(key):
                self._layout.touch(key)
                return
            self._layout.clear_leftovers(key)
            folder = self._layout.new_building(key)
            try:
                self._build(builder, lock, os.path.join(folder, "environment"), worker())
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _build(self, builder: Builder, lock: Lock, beside: str, work: Work) -> None:
        """Build beside, check, rename, declare usable. The lock of the key is held."""
        began = time.perf_counter()
        os.mkdir(beside)
        builder.build(lock, beside, work)
        wrong = builder.check(lock, beside, work)
        if wrong:
            raise EnvironmentFailed(
                f"The environment was built but does not work: {wrong}.",
                "Submit again; if it stays so, clean uv's cache (uv cache clean).",
            )
        size = tree_bytes(beside)
        prefix = self._layout.prefix(lock.key)
        self._layout.discard(lock.key)  # a folder without a valid state
        os.replace(beside, prefix)
        sync_folder(os.path.dirname(prefix))
        self._layout.write_state(
            lock.key,
            State(
                builder=lock.builder,
                python=os.path.relpath(builder.interpreter(lock, prefix), prefix),
                python_version=lock.python_version,
                packages=lock.package_count,
                bytes=size,
                created=time.time(),
                boot=boot_id(),
            ),
        )
        work.log(f"Environment {lock.key[:8]} built in {time.perf_counter() - began:.1f} s.")


def _request_key(builder: Builder, spec: EnvironmentSpec) -> str:
    parts = {"format": FORMAT, "request": builder.request(spec), "spec": {**to_wire(spec), "name": None}}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _worker(log: Log, stop: threading.Event) -> Callable[[], Work]:
    """Makes the ``Work`` of each step, with the whole time each: waiting for others is no work."""
    return lambda: Work(log, stop, settings.get("environment_build_timeout_s"))


def _ready(builder: Builder, lock: Lock, prefix: str | None, cached: bool, started: float) -> Ready:
    return Ready(
        key=lock.key,
        builder=lock.builder,
        python=lock.python if prefix is None else builder.interpreter(lock, prefix),
        python_version=lock.python_version,
        prefix=prefix,
        cached=cached,
        seconds=time.perf_counter() - started,
        notes=tuple(lock.notes),
    )
