"""Environments by content: a request gets a lock, a lock is built once, and what is built is found in milliseconds."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from windlass import settings
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import registry
from windlassd.envs._conda_cache import sweep_channels
from windlassd.envs._flock import held, held_if_free, shared_if_free
from windlassd.envs._for_targets import ForNodes, TargetLocks
from windlassd.envs._from_lock import Locator
from windlassd.envs._layout import Layout, RequestRecord, State, boot_id, stamp, sync_folder, written_under
from windlassd.envs._log_file import Follower, written
from windlassd.envs._records import WRITING, is_fresh, older, request_key, sweep_records
from windlassd.envs._settle import Settler
from windlassd.envs._shelf import BuiltEnvironment, EnvironmentInUse, Shelf, changes
from windlassd.envs._turns import Turns
from windlassd.envs._uses import Use, Uses
from windlassd.envs.base import Builder, EnvironmentFailed, InImages, Lock, LockOutdated, Log, Outside, Ready, Work
from windlassd.envs.container_engine import EngineUnavailable
from windlassd.envs.interpreters import probe
from windlassd.envs.target import Target

__all__ = ["BuiltEnvironment", "EnvironmentCache", "EnvironmentInUse", "ForNodes", "Holders", "Use"]

_AWAY_S = 300.0
Holders = Callable[[], Sequence[Use]]
"""The runs that an environment is being made for, as they are at the moment of the call; from any thread."""


class EnvironmentCache:
    """The environments under one folder, shared by all server processes of a home.

    Methods may be called from any thread.

    Args:
        root: ``<WINDLASS_HOME>/environments``; made when missing.
        clock: Unix seconds; decides how old a lock is.
        builder_for: Picks the builder of a spec; raises for what none can do.

    Attributes:
        unpack: Puts the files of a snapshot, by its id, into a folder; for Dockerfiles that copy some.
        for_targets: Locks for other machines, which build them (see ``from_lock``).
    """

    def __init__(
        self,
        root: str,
        *,
        clock: Callable[[], float] = time.time,
        builder_for: Callable[[EnvironmentSpec], Builder] | None = None,
        builder_named: Callable[[str], Builder] | None = None,
        builder_for_target: Callable[[EnvironmentSpec, Target], Builder] | None = None,
    ) -> None:
        self._layout = Layout(root)
        self._clock = clock
        self._builder_for = builder_for or functools.partial(registry.builder_for, root=self._layout.root)
        self._builder_named = builder_named or functools.partial(registry.create, root=self._layout.root)
        self._uses = Uses(self._layout.root)
        self._settler = Settler(self._layout, self.sweep, self._tidy)
        self.shelf = Shelf(self._layout, self._uses, self._builder_named, self._settler.stop)
        self._turns = Turns()
        self.for_targets = TargetLocks(self._layout, self._uses, self._turns, clock, builder_for_target)
        self._locator = Locator(self._layout.root)
        self.unpack: Callable[[str, str], None] | None = None
        self._away: dict[str, float] = {}
        self._too_much = False
        self._published: set[str] = set()
        self._release_ended: Callable[[], None] | None = None

    @property
    def root(self) -> str:
        """The folder of the cache."""
        return self._layout.root

    def check(self, spec: EnvironmentSpec, *, elsewhere: bool = False) -> None:
        """Raise EnvironmentFailed when no builder can make ``spec`` by its nature; resolves nothing.

        Args:
            spec: What is asked for.
            elsewhere: It is made on other machines, so that what this one lacks is no reason.
        """
        if elsewhere:
            self.for_targets.check(spec)
        else:
            self._builder_for(spec)

    def request_key(self, spec: EnvironmentSpec) -> str:
        """Equal for what leads to the same lock: who asks for it can wait for one piece of work. Costs as ``find``."""
        return request_key(self._builder_for(spec), spec)

    def find(self, spec: EnvironmentSpec, use: Use | None = None) -> Ready | None:
        """The environment for ``spec`` if nothing has to be resolved or built, else None. Costs milliseconds.

        Args:
            spec: What is asked for.
            use: The run that it is for; it stays until that is released.

        Raises:
            EnvironmentFailed: no builder can make it, whatever is in the cache.
        """
        started = time.perf_counter()
        builder = self._builder_for(spec)
        return self._found(builder, request_key(builder, spec), started, use)

    def prepare(
        self, spec: EnvironmentSpec, log: Log, stop: threading.Event | None = None, holders: Holders = tuple
    ) -> Ready:
        """The environment for ``spec``, resolved and built if need be: once, however many threads and processes ask.

        Args:
            spec: What is asked for.
            log: Takes the lines of the build, also of one that is waited for.
            stop: Ends the call soon when set.
            holders: The runs that it is for; it stays until they are released.

        Raises:
            EnvironmentFailed: it cannot be made, or was not ready in time.
            EnvironmentStopped: ``stop`` was set.
        """
        ready = self.find(spec, *holders()[:1])
        if ready is None:
            ready = self._prepared(spec, log, stop or threading.Event(), holders, anew=False)
        return self._settling(ready)

    def refresh(
        self, spec: EnvironmentSpec, log: Log, stop: threading.Event | None = None, holders: Holders = tuple
    ) -> Ready:
        """As ``prepare``, with versions resolved anew whatever the request got before."""
        return self._settling(self._prepared(spec, log, stop or threading.Event(), holders, anew=True))

    # What was resolved elsewhere

    def find_locked(self, lock: Lock, use: Use | None = None) -> Ready | None:
        """The environment of a lock that was resolved elsewhere, if nothing has to be built; costs milliseconds.

        Args:
            lock: What was resolved for machines such as this.
            use: The run that it is for; it stays until that is released.

        Raises:
            EnvironmentFailed: it is for other machines.
        """
        started, here = time.perf_counter(), self._locator.here(lock)
        if here is None or not (self._held(here.key, use) if use else self._usable(here.key)):
            return None
        if not self._layout.touch(here.key):
            return None
        prefix = self._layout.prefix(here.key)
        return self._settling(_ready(self._builder_named(here.builder), here, prefix, True, started))

    def from_lock(
        self,
        spec: EnvironmentSpec,
        lock: Lock,
        log: Log,
        stop: threading.Event | None = None,
        holders: Holders = tuple,
    ) -> Ready:
        """The environment of a lock that was resolved elsewhere, built unless it is here: once, however many ask.

        Args:
            spec: What was asked for.
            lock: What it was resolved to for machines such as this.
            log: Takes the lines of the build, also of one that is waited for.
            stop: Ends the call soon when set.
            holders: The runs that it is for; it stays until they are released.

        Raises:
            EnvironmentFailed: it is for other machines, or cannot be built here.
            EnvironmentStopped: ``stop`` was set.
        """
        if found := self.find_locked(lock, *holders()[:1]):
            return found
        started, builder = time.perf_counter(), self._builder_named(lock.builder)
        asked = _Asked(builder, spec, holders, False, started, stop or threading.Event(), self.unpack)
        with written_under(self._layout.root):
            here = self._locator.here(lock) or self._locator.downloaded(lock, asked.work(log))
            for note in here.notes[len(lock.notes) :]:
                log(note)
            self._ensure_built(asked, here, log)
        return self._settling(_ready(builder, here, self._layout.prefix(here.key), False, started))

    def locked(self, spec: EnvironmentSpec) -> Lock | None:
        """What ``spec`` was resolved to last, however long ago."""
        record = self._layout.request(self.request_key(spec))
        return self._layout.lock(record.lock) if record else None

    def changes(self, before: Lock | None, key: str) -> Sequence[dict[str, str | None]]:
        """What the lock of that key has otherwise than ``before``: ``name`` and versions ``before`` and ``after``."""
        after = self._layout.lock(key)
        return changes(before, after) if after else ()

    def hold(self, key: str, use: Use) -> bool:
        """See to it that the environment stays until the run is released; False when it is gone already."""
        return self._held(key, use) is not None

    def release(self, use: Use) -> None:
        """The run has ended."""
        self._uses.remove(use)
        if self._too_much:
            self._settler.tidy_soon()

    def release_others(self, workspace: str, active: Callable[[], Collection[str]]) -> None:
        """All runs of the workspace but those of ``active`` have ended."""
        self._uses.keep_only(workspace, active)

    def start(self, release_ended: Callable[[], None] | None = None) -> None:
        """At the start of a server: complete what an earlier one built, and tidy up, both in the background.

        Args:
            release_ended: Called before each tidying, from its thread, to release the server's runs that have ended.
        """
        self._release_ended = release_ended
        for key in self._layout.built_keys():
            if not self._layout.is_settled(key) and (state := self._layout.state(key)) and not state.image:
                self._settler.add(key, os.path.join(self._layout.prefix(key), state.python))
        self._settler.tidy_soon()

    def list(self) -> Sequence[BuiltEnvironment]:
        """The usable environments, last used first."""
        return self.shelf.list()

    def remove(self, key: str) -> None:
        """Delete an environment from the cache.

        Raises:
            UserErrorException: there is none of that key, or it is being built.
            EnvironmentInUse: runs use it.
        """
        self.shelf.remove(key)

    def sweep(self) -> None:
        """Delete what builds left that were killed; live builds are known by their locks."""
        for key, _ in list(self._layout.leftovers()):
            with held_if_free(self._layout.lock_file(key)) as mine:
                if mine:
                    self._layout.clear_leftovers(key)
        for key in filter(self._layout.is_unfinished, self._layout.built_keys()):
            with held_if_free(self._layout.lock_file(key)) as mine:
                if mine and self._layout.is_unfinished(key):
                    self._layout.discard(key)
        registry.sweep(self._layout.root)

    def join(self) -> None:
        """Return when the background work on all environments made so far is done."""
        self._settler.join()

    def close(self) -> None:
        """End the background work; a later server takes it up again."""
        self._settler.close()

    def _tidy(self) -> None:
        if self._release_ended:
            self._release_ended()  # one that was canceled in the moment it got its environment may still have it
        self._published, new = set(), self._published
        self._too_much = not self.shelf.tidy(new)
        sweep_records(self._layout, self._clock(), settings.get("environment_ttl_s"), self._uses.by_key())
        sweep_channels(self._layout.root, self._clock())

    def _settling(self, ready: Ready) -> Ready:
        if ready.prefix and not self._layout.is_settled(ready.key):
            self._settler.add(ready.key, ready.python)
        return ready

    def _found(self, builder: Builder, request: str, started: float, use: Use | None = None) -> Ready | None:
        record = self._layout.request(request)
        if record is None or not (self._is_fresh(record) or self._is_away(request)):
            return None
        if builder.in_place:
            lock = self._layout.lock(record.lock)
            if lock is None or not _is_there(builder, lock):
                return None
            return _ready(builder, lock, None, True, started)
        return self._kept(record, started, use, () if self._is_fresh(record) else (older(record),))

    def _kept(self, record: RequestRecord, started: float, use: Use | None, notes: Sequence[str]) -> Ready | None:
        """The environment that the request got, if it is there."""
        state = self._held(record.lock, use) if use else self._usable(record.lock)
        if state is None or not self._layout.touch(record.lock):
            return None
        prefix = self._layout.prefix(record.lock)
        return Ready(
            key=record.lock,
            builder=state.builder,
            python=os.path.join(prefix, state.python),
            python_version=state.python_version,
            prefix=None if state.image else prefix,
            cached=True,
            seconds=time.perf_counter() - started,
            notes=(*record.notes, *notes),
            image=state.image,
            engine=state.engine,
        )

    def _held(self, key: str, use: Use) -> State | None:
        """The state of the environment, which stays until ``use`` is released; None when there is none."""
        with shared_if_free(self._layout.lock_file(key)) as mine:
            if not mine:
                return None  # it is just being built or removed: wait for that
            self._uses.add(key, use)
            state = self._usable(key)
        if state is None:
            self._uses.remove(use)
        return state

    def _usable(self, key: str) -> State | None:
        """The state of the environment, when all of it is there."""
        state = self._layout.state(key)
        return state if state and self.shelf.is_there(key, state) else None

    def _is_fresh(self, record: RequestRecord) -> bool:
        return is_fresh(record, self._clock())

    def _is_away(self, request: str) -> bool:
        """True for some minutes after the index could not be asked, so that not each run waits for that anew."""
        return self._clock() < self._away.get(request, 0.0)

    def _prepared(
        self, spec: EnvironmentSpec, log: Log, stop: threading.Event, holders: Holders, *, anew: bool
    ) -> Ready:
        asked = _Asked(self._builder_for(spec), spec, holders, anew, time.perf_counter(), stop, self.unpack)
        request = request_key(asked.builder, spec)
        waiting = Follower(
            self._layout.log_file(request), log, "Waiting for the same environment, which is being prepared already:"
        )
        with (
            written_under(self._layout.root),
            contextlib.closing(waiting),
            held(self._layout.lock_file(request), stop, waiting.look),
        ):
            ready = None if anew else self._found(asked.builder, request, asked.started, *holders()[:1])
            if ready is None:
                self._layout.clear_leftovers(request)
                with written(self._layout.log_file(request), log) as say:
                    ready = self._made(asked, request, say)
        return ready

    def _made(self, asked: _Asked, request: str, log: Log) -> Ready:
        """Resolve unless a good lock is there, and build what is not. The lock of ``request`` is held."""
        builder = asked.builder
        kept = None if asked.anew else self._kept_lock(builder, request)
        try:
            lock = kept or self._resolved(asked, log)
            if not builder.in_place:
                self._ensure_built(asked, lock, log)
        except EngineUnavailable:
            raise  # what was built before needs the engine as well
        except LockOutdated as problem:
            if kept is None:
                raise
            self._layout.forget_request(request)
            log(problem.message.split("\n")[0])
            return self._made(asked, request, log)
        except EnvironmentFailed as problem:
            if problem.transient:
                return self._older_one(asked, request, problem, log)
            if kept:
                self._layout.forget_request(request)  # what was locked may be gone from the index
            raise
        if kept is None:
            with held(self._layout.lock_file(WRITING), asked.stop, lambda: None):
                self._layout.write_request(request, lock, self._clock(), to_wire(asked.spec))
            self._away.pop(request, None)
        return _ready(builder, lock, None if builder.in_place else self._layout.prefix(lock.key), False, asked.started)

    def _resolved(self, asked: _Asked, log: Log) -> Lock:
        with self._turns.turn(log, asked.stop):
            return asked.builder.resolve(asked.spec, asked.work(log))

    def _older_one(self, asked: _Asked, request: str, problem: EnvironmentFailed, log: Log) -> Ready:
        """What the request got before, where it is still there; else the ``problem``."""
        record = None if asked.anew or asked.builder.in_place else self._layout.request(request)
        note = older(record) if record else ""
        holders = asked.holders()
        ready = self._kept(record, asked.started, holders[0] if holders else None, (note,)) if record else None
        if ready is None:
            said = "" if asked.anew else "\nNothing that was built for this before is in the cache."
            raise EnvironmentFailed(problem.message + said, transient=True) from problem
        log(problem.message.split("\n")[0])
        log(note)
        self._away[request] = self._clock() + _AWAY_S
        return ready

    def _kept_lock(self, builder: Builder, request: str) -> Lock | None:
        """The lock that the request got earlier, if it is not too old and its interpreter is still there."""
        record = self._layout.request(request)
        if record is None or not self._is_fresh(record):
            return None
        lock = self._layout.lock(record.lock)
        if lock and lock.image and builder.in_place and not _is_there(builder, lock):
            return None
        if lock is None or lock.image or not os.path.isabs(lock.python) or self._usable(lock.key):
            return lock
        return lock if _version_of(lock.python) == lock.python_version else None

    def _ensure_built(self, asked: _Asked, lock: Lock, log: Log) -> None:
        key = lock.key
        waiting = Follower(
            self._layout.log_file(key), log, f"Waiting for the build of environment {key[:8]}, which is under way:"
        )
        with contextlib.closing(waiting), held(self._layout.lock_file(key), asked.stop, waiting.look):
            if self._usable(key) or self._still_works(lock, log):
                self._layout.touch(key)
            else:
                self._layout.clear_leftovers(key)
                with written(self._layout.log_file(key), log) as say, self._turns.turn(say, asked.stop):
                    self._build_beside(asked, lock, say)
            for use in asked.holders():
                self._uses.add(key, use)

    def _still_works(self, lock: Lock, log: Log) -> bool:
        """Whether only the file of its interpreter is another one, of the same version. The lock of the key is held."""
        state = self._layout.whole(lock.key)
        if state is None or state.stamp is None or not self.shelf.is_there(lock.key, state):
            return False
        python = os.path.join(self._layout.prefix(lock.key), state.python)
        now = stamp(python)
        if now is None or _version_of(python) != lock.python_version:
            return False
        self._layout.write_state(lock.key, replace(state, stamp=now))
        log(f"The interpreter {lock.python} was replaced by one of the same version; the environment works with it.")
        return True

    def _build_beside(self, asked: _Asked, lock: Lock, log: Log) -> None:
        folder = self._layout.new_building(lock.key)
        try:
            self._layout.write_lock(lock.key, lock)
            self._build(asked.builder, lock, os.path.join(folder, "environment"), asked.work(log))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._settler.tidy_soon()

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
        prefix = self._layout.prefix(lock.key)
        self._layout.discard(lock.key)  # a folder without a valid state
        os.replace(beside, prefix)
        python = builder.interpreter(lock, prefix)
        image, engine = _place(builder, lock, prefix)
        outside = not image and os.path.isabs(lock.python)
        if image:  # which settling leaves alone
            sync_folder(os.path.dirname(prefix))
        self._layout.write_state(
            lock.key,
            State(
                builder=lock.builder,
                python=python if image else os.path.relpath(python, prefix),
                python_version=lock.python_version,
                packages=lock.package_count,
                created=time.time(),
                boot=boot_id(),
                image=image,
                engine=engine,
                stamp=stamp(python) if outside else None,
                place=None if os.path.isabs(lock.python) else prefix,
            ),
            durable=bool(image),
        )
        self._published.add(lock.key)
        work.log(f"Environment {lock.key[:8]} built in {time.perf_counter() - began:.1f} s.")


@dataclass(frozen=True)
class _Asked:
    """One call of ``prepare`` or ``refresh``."""

    builder: Builder
    spec: EnvironmentSpec
    holders: Holders
    anew: bool
    started: float
    stop: threading.Event
    unpack: Callable[[str, str], None] | None

    def work(self, log: Log) -> Work:
        """For one step, with the whole time: waiting for others is no work."""
        return Work(log, self.stop, settings.get("environment_build_timeout_s"), anew=self.anew, unpack=self.unpack)


def _version_of(python: str) -> str | None:
    """The version of the interpreter, learned by running it; None when it does not run."""
    answer = probe(python)
    return None if isinstance(answer, str) else answer[0]


def _is_there(builder: Builder, lock: Lock) -> bool:
    """Whether what a builder takes as it stands is still there."""
    return builder.is_there(lock, "") if isinstance(builder, Outside) else os.access(lock.python, os.X_OK)


def _place(builder: Builder, lock: Lock, prefix: str) -> tuple[str, str] | tuple[None, None]:
    """(image, address of its engine) of the environment; None for one that is in no image."""
    return builder.place(lock, prefix) if isinstance(builder, InImages) else (None, None)


def _ready(builder: Builder, lock: Lock, prefix: str | None, cached: bool, started: float) -> Ready:
    image, engine = _place(builder, lock, prefix or "")
    return Ready(
        key=lock.key,
        builder=lock.builder,
        python=lock.python if prefix is None else builder.interpreter(lock, prefix),
        python_version=lock.python_version,
        prefix=None if image else prefix,
        cached=cached,
        seconds=time.perf_counter() - started,
        notes=tuple(lock.notes),
        in_place=builder.in_place,
        image=image,
        engine=engine,
    )
