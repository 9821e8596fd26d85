"""Registered environments, and builds that somebody asked for without a run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass.errors import AzureMLException, UserErrorException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.control.core import Core
from windlassd.envs.base import EnvironmentStopped
from windlassd.store.base import Conflict, EnvironmentRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_KEPT_BUILDS = 100
_LONGEST_WAIT_S = 30.0
RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"


@dataclass
class _Build:
    id: str
    spec: EnvironmentSpec
    status: str = RUNNING
    key: str | None = None
    error: str | None = None
    lines: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
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
        return await self._core.write(lambda tx: tx.add_environment(name, definition, time.time(), version))

    async def label(self, name: str, version: str, labels: Sequence[str]) -> EnvironmentRecord:
        """Put labels on a version; they leave the one they stood on."""
        self.get(name, version)
        await self._core.write(lambda tx: tx.label_environment(name, version, labels))
        return self.get(name, version)

    # Builds

    def build(self, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Begin to build; one that is under way for the same packages is joined."""
        build_id = hashlib.sha256(json.dumps({**to_wire(spec), "name": None}, sort_keys=True).encode()).hexdigest()[:32]
        known = self._builds.get(build_id)
        if known is None or known.status != RUNNING:
            known = self._builds[build_id] = _Build(build_id, spec)
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

    def building(self) -> int:
        """How many builds are under way."""
        return len(self._tasks)

    def close(self) -> None:
        """Stop the builds; who asked for one asks again."""
        for build in self._builds.values():
            build.stop.set()
        for task in self._tasks:
            task.cancel()

    async def remove(self, key: str) -> None:
        """Remove a built environment that no run uses.

        Raises:
            Conflict: runs use it.
        """
        used = [r.id for r in self._core.read(lambda tx: tx.active_runs()) if r.environment.get("key") == key]
        if used:
            raise Conflict(f"The environment {key} is in use by {', '.join(used[:5])}; cancel or wait for it to end.")
        await asyncio.to_thread(self._core.envs.remove, key)

    async def _run(self, build: _Build) -> None:
        def say(line: str) -> None:
            self._core.loop.call_soon_threadsafe(take, line)

        def take(line: str) -> None:
            build.lines.append(line)
            build.note()

        try:
            ready = await asyncio.to_thread(self._core.envs.prepare, build.spec, say, build.stop)
            build.key, build.status = ready.key, SUCCEEDED
            build.lines += [*ready.notes, f"The environment {ready.key[:12]} is ready (Python {ready.python_version})."]
        except EnvironmentStopped:
            build.status, build.error = FAILED, "The build was stopped."
        except AzureMLException as problem:
            build.status, build.error = FAILED, problem.message
        build.note()

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
        "lines": build.lines[line:], "next": len(build.lines),
    }  # fmt: skip
