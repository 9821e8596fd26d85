"""Locks for other machines: resolved here by the same rules as what is built here, and built there."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from windlass import settings
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import registry
from windlassd.envs._flock import held
from windlassd.envs._frameworks import has_gpu
from windlassd.envs._layout import Layout, RequestRecord, written_under
from windlassd.envs._log_file import Follower, written
from windlassd.envs._records import WRITING, is_fresh, older, request_key
from windlassd.envs._shelf import EnvironmentInUse, package_versions
from windlassd.envs._turns import Turns
from windlassd.envs._uses import Use, Uses
from windlassd.envs.base import Builder, EnvironmentFailed, LeftToNodes, Lock, Log, Work
from windlassd.envs.interpreters import Interpreters, any_python
from windlassd.envs.target import Target, platform_name

_AWAY_S = 300.0
_ANYWHERE = Target("linux", tuple((item.version, "") for item in any_python()))
"""Machines of which nothing is known, where any Python may be."""
_WAITING = "Waiting for the same packages, which are being resolved already:"


@dataclass(frozen=True)
class ForNodes:
    """A lock for machines elsewhere, each of which builds it for itself."""

    key: str
    builder: str
    python_version: str
    packages: int
    platform: str
    """Of those machines."""
    made: float
    """Unix seconds at which it was last resolved."""
    in_use: tuple[Use, ...] = ()
    """Runs of all workspaces that have not ended and need it."""


@dataclass(frozen=True)
class TargetLocks:
    """Methods may be called from any thread.

    Args:
        layout: Where locks are kept.
        uses: Which runs need which.
        turns: Bounds how many are resolved at once.
        clock: Unix seconds.
        own_builder_for: Picks the builder of a spec whose locks are for a target, instead of the registry.
    """

    layout: Layout
    uses: Uses
    turns: Turns
    clock: Callable[[], float]
    own_builder_for: Callable[[EnvironmentSpec, Target], Builder] | None = None
    _away: dict[str, float] = field(default_factory=dict)

    def check(self, spec: EnvironmentSpec) -> None:
        """Raise EnvironmentFailed when no builder can make ``spec`` anywhere; resolves nothing."""
        self._builder_for(spec, _ANYWHERE)

    def left(self, spec: EnvironmentSpec, target: Target) -> str | None:
        """Why ``spec`` cannot be resolved here for ``target``, so that its nodes ``prepare`` it; None when it can."""
        return None if self.own_builder_for else registry.left_to_nodes(spec, target)

    def builder_name(self, spec: EnvironmentSpec) -> str:
        """Name of the builder that makes ``spec``."""
        return registry.name_for(spec)

    def own(self) -> Target:
        """This machine, as one among others."""
        found = Interpreters(os.path.join(self.layout.root, "interpreters.json")).available()
        return Target(platform_name(), tuple(sorted((item.version, item.path) for item in found)), has_gpu())

    def lock(self, key: str) -> Lock | None:
        """A lock that was resolved, by its key."""
        return self.layout.lock(key)

    def hold(self, key: str, use: Use) -> None:
        """See to it that ``lock`` finds it until the run is released."""
        self.uses.add(key, use)

    def list(self) -> Sequence[ForNodes]:
        """The locks that requests lead to, the newest first."""
        made: dict[str, float] = {}
        for _, record in self._requests():
            made[record.lock] = max(record.made, made.get(record.lock, 0.0))
        uses = self.uses.by_key()
        found = [_told(lock, made[key], uses.get(key, ())) for key in made if (lock := self.layout.lock(key))]
        return sorted(found, key=lambda item: item.made, reverse=True)

    def details(self, key: str) -> dict[str, Any] | None:
        """What ``list`` does not tell: what is in it, why, and which requests lead to it; None: no request does."""
        requests = [
            {"key": name, "made": record.made, "spec": record.spec, "notes": [*record.notes]}
            for name, record in self._requests()
            if record.lock == key
        ]
        lock = self.layout.lock(key) if requests else None
        if lock is None:
            return None
        return {"notes": [*lock.notes], "contents": package_versions(lock), "requests": requests}

    def forget(self, key: str) -> bool:
        """See to it that the requests that lead to the lock are resolved anew; False when none does.

        Raises:
            EnvironmentInUse: runs need it.
        """
        names = [name for name, record in self._requests() if record.lock == key]
        if names and (uses := self.uses.of(key)):
            runs = ", ".join(use.run_id for use in uses[:5])
            raise EnvironmentInUse(f"The environment {key} is in use by {runs}; cancel or wait for it to end.")
        for name in names:
            self.layout.forget_request(name)
        return bool(names)

    def request_key(self, spec: EnvironmentSpec, target: Target) -> str:
        """Equal for what leads to the same lock."""
        return request_key(self._builder_for(spec, target), spec)

    def find(self, spec: EnvironmentSpec, target: Target, use: Use | None = None) -> Lock | None:
        """What ``spec`` was resolved to for ``target``, while that holds, else None. Costs milliseconds.

        Args:
            spec: What is asked for.
            target: The machines that it is to be built on.
            use: The run that it is for; ``lock`` finds it until that is released.
        """
        return self._kept(self.request_key(spec, target), use)

    def resolve(
        self,
        spec: EnvironmentSpec,
        target: Target,
        log: Log,
        stop: threading.Event | None = None,
        holders: Callable[[], Sequence[Use]] = tuple,
        *,
        anew: bool = False,
    ) -> Lock:
        """The lock for ``spec`` on ``target``, without building anything: once, however many ask.

        Args:
            spec: What is asked for.
            target: The machines that it is to be built on.
            log: Takes the lines of the resolution, also of one that is waited for.
            stop: Ends the call soon when set.
            holders: The runs that it is for; ``lock`` finds it until they are released.
            anew: Whatever the request got before.

        Raises:
            LeftToNodes: what it needs can be learned there alone.
            EnvironmentFailed: no versions fit, or it was not ready in time.
            EnvironmentStopped: ``stop`` was set.
        """
        stop, builder = stop or threading.Event(), self._builder_for(spec, target)
        request = request_key(builder, spec)
        waiting = Follower(self.layout.log_file(request), log, _WAITING)
        with (
            written_under(self.layout.root),
            contextlib.closing(waiting),
            held(self.layout.lock_file(request), stop, waiting.look),
        ):
            lock = None if anew else self._kept(request, None)
            if lock is None:
                self.layout.clear_leftovers(request)
                with written(self.layout.log_file(request), log) as say:
                    work = Work(say, stop, settings.get("environment_build_timeout_s"), anew=anew)
                    lock = self._resolved(builder, spec, target, request, work)
            for use in holders():
                self.uses.add(lock.key, use)
        return lock

    def _resolved(self, builder: Builder, spec: EnvironmentSpec, target: Target, request: str, work: Work) -> Lock:
        try:
            with self.turns.turn(work.log, work.stop):
                lock = builder.resolve(spec, work)
        except EnvironmentFailed as problem:
            if not problem.transient or work.anew or (known := self._older_one(request, work, problem)) is None:
                if problem.build_failed and target.machine != os.uname().machine:
                    raise _left(problem) from problem
                raise
            return known
        with held(self.layout.lock_file(WRITING), work.stop, lambda: None):
            self.layout.write_request(request, lock, self.clock(), to_wire(spec), target.platform)
        self._away.pop(request, None)
        return lock

    def _builder_for(self, spec: EnvironmentSpec, target: Target) -> Builder:
        if self.own_builder_for:
            return self.own_builder_for(spec, target)
        return registry.builder_for(spec, self.layout.root, target)

    def _older_one(self, request: str, work: Work, problem: EnvironmentFailed) -> Lock | None:
        record = self.layout.request(request)
        lock = self.layout.lock(record.lock) if record else None
        if record is None or lock is None:
            return None
        work.log(problem.message.split("\n")[0])
        work.log(older(record))
        self._away[request] = self.clock() + _AWAY_S  # not each run is to wait for that anew
        return replace(lock, notes=(*lock.notes, older(record)))

    def _requests(self) -> Iterator[tuple[str, RequestRecord]]:
        return ((name, record) for name, record in self.layout.requests() if record.platform)

    def _kept(self, request: str, use: Use | None) -> Lock | None:
        record = self.layout.request(request)
        if record is None:
            return None
        fresh = is_fresh(record, self.clock())
        if not fresh and self.clock() >= self._away.get(request, 0.0):
            return None
        if use:
            self.uses.add(record.lock, use)
        lock = self.layout.lock(record.lock)
        if lock is None:
            return None
        return lock if fresh else replace(lock, notes=(*lock.notes, older(record)))


def _told(lock: Lock, made: float, uses: Sequence[Use]) -> ForNodes:
    return ForNodes(
        lock.key, lock.builder, lock.python_version, lock.package_count, lock.platform, made, tuple(uses)
    )  # fmt: skip


def _left(problem: EnvironmentFailed) -> LeftToNodes:
    """For what a machine of another kind cannot build to look into it."""
    said = problem.message.split("\n")[0].rstrip(".")
    return LeftToNodes(f"a package has to be built to know what it needs, which works there if at all ({said})")
