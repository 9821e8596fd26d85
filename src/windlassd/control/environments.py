"""Registered environments, builds that somebody asked for without a run, and what is built."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass import settings
from windlass.errors import AzureMLException, UserErrorException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.blobs.snapshots import materialize
from windlassd.control.core import Core
from windlassd.envs._credentials import refuse_credentials_within
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped
from windlassd.envs.cache import BuiltEnvironment, EnvironmentInUse, ForNodes
from windlassd.store.base import Conflict, EnvironmentRecord

log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_KEPT_BUILDS = 100
_LATEST_RUNS = 1000
_LONGEST_WAIT_S = 30.0
RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"


@dataclass
class _Build:
    id: str
    spec: EnvironmentSpec
    refresh: bool = False
    status: str = RUNNING
    key: str | None = None
    error: str | None = None
    lines: list[str] = field(default_factory=list)
    changes: list[dict[str, str | None]] | None = None
    """Of a refresh that has ended: what differs from before."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        """Wake those who wait for news."""
        self.changed.set()
        self.changed = asyncio.Event()


class Environments:
    """Belongs to the loop's thread; questions about the registry may come from any."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._builds: dict[str, _Build] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        core.envs.unpack = self._unpack

    # The registry

    def list(self, name: str | None = None) -> Sequence[EnvironmentRecord]:
        """The newest version of each; with ``name`` all versions of that one."""
        found = self._core.read(lambda tx: tx.environments(name))
        if name is not None:
            return found
        newest: dict[str, EnvironmentRecord] = {}
        for record in found:
            newest.setdefault(record.name, record)
        return [newest[known] for known in sorted(newest)]

    def get(self, name: str, version: str | None = None, label: str | None = None) -> EnvironmentRecord:
        """A version, the one a label stands on, or the newest; the label ``latest`` is the newest of every name."""
        if label == "latest" and version is None:
            found = self._core.read(lambda tx: tx.find_environment(name, None, label)) or self._core.read(
                lambda tx: tx.find_environment(name)
            )
        else:
            found = self._core.read(lambda tx: tx.find_environment(name, version, label))
        if found is None:
            raise UserErrorException(self._absent(name, version, label))
        return found

    async def register(self, name: str, definition: Mapping[str, Any], version: str | None = None) -> EnvironmentRecord:
        """A new version, or the newest when its content is the same."""
        for what, text in (("an environment", name), ("a version of an environment", version or "1")):
            if not isinstance(text, str) or not _NAME.match(text):
                raise UserErrorException(f"{text!r} cannot name {what}: letters, digits, '_', '-', '.'; 255 at most.")
        if not isinstance(definition, dict):
            raise UserErrorException("The definition of an environment is a JSON object.")
        refuse_credentials_within(definition)
        return await self._core.write(lambda tx: tx.add_environment(name, definition, time.time(), version))

    async def label(self, name: str, version: str, labels: Sequence[str]) -> EnvironmentRecord:
        """Put labels on a version; they leave the one they stood on."""
        self.get(name, version)
        await self._core.write(lambda tx: tx.label_environment(name, version, labels))
        return self.get(name, version)

    # Builds

    def build(self, spec: EnvironmentSpec, *, refresh: bool = False) -> Mapping[str, Any]:
        """Begin to build, with ``refresh`` from versions resolved anew; the same that is under way is joined."""
        asked = {**to_wire(spec), "name": None, "refresh": refresh}
        build_id = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
        known = self._builds.get(build_id)
        if known is None or known.status != RUNNING:
            known = self._builds[build_id] = _Build(build_id, spec, refresh)
            while len(self._builds) > _KEPT_BUILDS:
                ended = next((i for i, b in self._builds.items() if b.status != RUNNING), None)
                if ended is None:
                    break
                del self._builds[ended]
            task = asyncio.get_running_loop().create_task(self._run(known), name=f"build {build_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return _told(known, 0)

    async def watch(self, build_id: str, line: int, wait_s: float) -> Mapping[str, Any]:
        """The state of a build and its log from ``line`` on; waits a while for something new."""
        build = self._builds.get(build_id)
        if build is None:
            raise UserErrorException(
                f"The build {build_id!r} is not known any more. Ask for it again: what is ready is found at once."
            )
        if build.status == RUNNING and len(build.lines) <= line:
            try:
                await asyncio.wait_for(build.changed.wait(), min(max(wait_s, 0.0), _LONGEST_WAIT_S))
            except TimeoutError:
                pass  # the answer says that nothing is new
        return _told(build, line)

    async def find(self, spec: EnvironmentSpec) -> Mapping[str, Any] | None:
        """What is built for ``spec``, as on a run's record; None when something would have to be done for it."""
        ready = await asyncio.to_thread(self._core.envs.find, spec)
        return None if ready is None else dict(to_wire(ready))

    def building(self) -> int:
        """How many builds are under way."""
        return len(self._tasks)

    def close(self) -> None:
        """Stop the builds; who asked for one asks again."""
        for task in self._tasks:
            task.cancel()
        self._core.builds.close()

    # What is built

    async def start(self) -> None:
        """After a start: what runs need stays; what an earlier server left is completed or removed in the background.

        Before any run of an earlier server is taken up.
        """
        await asyncio.to_thread(self._keep)
        self._core.envs.start(self._forget_ended)

    def release(self, run_id: str) -> None:
        """The run has ended and needs no environment any more."""
        self._core.envs.release(self._core.use(run_id))

    def built(self) -> Mapping[str, Any]:
        """The environments of the home, what they take together, and what they may."""
        self._forget_ended()
        shelf = self._core.envs.shelf
        return {
            "environments": [_item(item) for item in shelf.list()],
            "for_nodes": [_item(item) for item in self._core.envs.for_targets.list()],
            "total_bytes": shelf.total_bytes(),
            "max_bytes": settings.steady("environments_max_gb"),
        }

    def show(self, key: str) -> Mapping[str, Any]:
        """All about one environment, with the registered ones of this workspace, and its latest runs, that had it."""
        self._forget_ended()
        shelf, locks = self._core.envs.shelf, self._core.envs.for_targets
        for_nodes = next((_item(item) for item in locks.list() if item.key == key), None)
        if for_nodes and key not in {item.key for item in shelf.list()}:
            item, details = for_nodes, locks.details(key) or {"requests": ()}
        else:
            item, details = _item(shelf.get(key)), shelf.details(key)
        lines = self._core.read(lambda tx: tx.list_lines(limit=_LATEST_RUNS))
        registered = self._leading_to({request["key"] for request in details["requests"]})
        runs = [line.id for line in lines if key in line.text]
        return {**item, **details, "registered": registered, "runs": runs}

    async def remove(self, key: str) -> None:
        """Remove a built environment that no run uses.

        Raises:
            Conflict: runs use it.
        """
        used = [r.id for r in self._core.read(lambda tx: tx.active_runs()) if r.environment.get("key") == key]
        if used:  # also where there is nothing to remove, but the user's own interpreter
            raise Conflict(f"The environment {key} is in use by {', '.join(used[:5])}; cancel or wait for it to end.")
        await asyncio.to_thread(self._forget_ended)
        envs = self._core.envs
        try:
            forgotten = await asyncio.to_thread(envs.for_targets.forget, key)
            if not forgotten or key in {item.key for item in await asyncio.to_thread(envs.list)}:
                await asyncio.to_thread(envs.remove, key)
        except EnvironmentInUse as problem:
            raise Conflict(problem.message) from problem

    def prune(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove what was not used for ``older_than_s``, then the least recently used down to ``max_bytes``; or all."""
        older_than_s, max_bytes = (_amount(asked, name) for name in ("older_than_s", "max_bytes"))
        if not asked.get("all") and older_than_s is None and max_bytes is None:
            raise UserErrorException("Say what to remove: `older_than_s`, `max_bytes` or `all`.")
        self._forget_ended()
        done = self._core.envs.shelf.prune(
            used_before=None if older_than_s is None else time.time() - older_than_s,
            max_bytes=0 if asked.get("all") else None if max_bytes is None else int(max_bytes),
            dry_run=bool(asked.get("dry_run")),
        )
        return {
            "removed": [_item(item) for item in done.removed], "freed_bytes": done.freed_bytes,
            "left_bytes": done.left_bytes, "in_use": list(done.in_use),
        }  # fmt: skip

    def _keep(self) -> None:
        self._forget_ended()
        for run in self._core.read(lambda tx: tx.active_runs()):
            key, use = run.environment.get("key"), self._core.use(run.id)
            if run.nodes and key and run.environment.get("platform"):
                self._core.envs.for_targets.hold(str(key), use)
            elif run.nodes and key:  # an older version's has no note of it; one taken in place is not there
                self._core.envs.hold(str(key), use)

    def _leading_to(self, requests: set[str]) -> Sequence[Mapping[str, str]]:
        """Name and version of the registered environments whose packages are one of these requests."""
        records = self._core.read(lambda tx: tx.environments()) if requests else ()
        return [
            {"name": record.name, "version": record.version}
            for record in sorted(records, key=lambda record: record.name)
            if (spec := _spec_of(record)) and self._request_key(spec) in requests
        ]

    def _request_key(self, spec: EnvironmentSpec) -> str | None:
        try:
            return self._core.envs.request_key(spec)
        except AzureMLException:  # none can make it, so nothing is built for it
            return None

    def _forget_ended(self) -> None:
        def active() -> set[str]:
            return {run.id for run in self._core.read(lambda tx: tx.active_runs())}

        self._core.envs.release_others(self._core.workspace_dir, active)

    async def _run(self, build: _Build) -> None:
        def take(line: str) -> None:
            build.lines.append(line)
            build.note()

        envs = self._core.envs
        try:
            before = await asyncio.to_thread(envs.locked, build.spec) if build.refresh else None
            ready = await self._core.builds.prepare(build.spec, take, anew=build.refresh)
            if build.refresh:
                build.changes = list(await asyncio.to_thread(envs.changes, before, ready.key))
            large = await asyncio.to_thread(self._too_large, ready.key)
            build.lines += [note for note in ready.notes if note not in build.lines]
            build.lines += [large] if large else []
            build.lines += [f"The environment {ready.key[:12]} is ready (Python {ready.python_version})."]
            build.key, build.status = ready.key, SUCCEEDED  # last: who watches asks no more after that
        except EnvironmentStopped:
            build.status, build.error = FAILED, "The build was stopped."
        except AzureMLException as problem:
            build.status, build.error = FAILED, problem.message
        except Exception as problem:  # the edge: a bug of ours must not leave whoever watches waiting for ever
            log.exception("the build %s failed", build.id)
            build.status = FAILED
            build.error = (
                f"Windlass failed while making the environment: {problem!r}. Please report it with server.log."
            )
        build.note()

    def _too_large(self, key: str) -> str | None:
        """A sentence about an environment that takes more than all together may; None for any other."""
        limit: int = settings.steady("environments_max_gb")
        size = self._core.envs.shelf.bytes_of(key)
        if size <= limit:
            return None
        return (
            f"It takes {size / 1e9:.3g} GB, above the {limit / 1e9:.3g} GB of environments_max_gb: it stays"
            " until another one is made or used, and is built again for who asks then. Raise the setting to keep it."
        )

    def _unpack(self, snapshot_id: str, folder: str) -> None:
        """Put the files of a Dockerfile's context into ``folder``; from any thread."""
        files = self._core.read(lambda tx: tx.find_snapshot(snapshot_id))
        if files is None:
            raise EnvironmentFailed(f"The snapshot {snapshot_id!r}, with the files of the Dockerfile, is gone.",
                                    "Submit again from where they are.")  # fmt: skip
        materialize(self._core.blobs, files, folder)

    def _absent(self, name: str, version: str | None, label: str | None) -> str:
        versions = self._core.read(lambda tx: tx.environments(name))
        if not versions:
            names = [record.name for record in self.list()]
            return f"There is no environment {name!r}.{did_you_mean(name, names)} Registered are: " + (
                f"{', '.join(names[:20]) or 'none yet'}."
            )
        if label is not None:
            labels = sorted({text for record in versions for text in record.labels})
            known = ", ".join(labels) or "none"
            return f"No version of the environment {name!r} has the label {label!r}; its labels: {known}."
        return (
            f"The environment {name!r} has no version {version!r}; it has "
            f"{', '.join(record.version for record in reversed(versions))}."
        )


def _told(build: _Build, line: int) -> Mapping[str, Any]:
    return {
        "id": build.id, "status": build.status, "key": build.key, "error": build.error,
        "lines": build.lines[line:], "next": len(build.lines), "changes": build.changes,
    }  # fmt: skip


def _item(item: BuiltEnvironment | ForNodes) -> dict[str, Any]:
    in_use = [{"workspace": os.path.basename(use.workspace), "run_id": use.run_id} for use in item.in_use]
    return {**to_wire(item), "in_use": in_use}


def _spec_of(record: EnvironmentRecord) -> EnvironmentSpec | None:
    """What a run in the registered environment asks for; None when none can."""
    from windlass.environment import Environment, environment_spec  # the SDK's own, which no start waits for

    try:
        return environment_spec(Environment._from_dictionary(record.definition, f"the environment {record.name}"))
    except AzureMLException:
        return None


def _amount(asked: Mapping[str, Any], name: str) -> float | None:
    value = asked.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise UserErrorException(f"`{name}` is {value!r}; it must be a number of at least 0.")
    return float(value)
