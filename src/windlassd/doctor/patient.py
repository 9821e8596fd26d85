"""What the doctor examines: a workspace, and what is known of the processes around it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy.engine import Connection

from windlass._transport.places import server_dir
from windlassd.blobs.whole_run import WholeRun
from windlassd.doctor.lost import LostAndFound
from windlassd.envs._flock import is_held
from windlassd.store.sql import FILE, SqlStore

T = TypeVar("T")
_LONG_S = 600.0


class Live(Protocol):
    """What the server knows of the moment. Called from the doctor's thread."""

    def agent_failures(self) -> int:
        """Starts in a row of an agent that did not lead to a connection."""
        ...

    def held(self) -> Collection[str]:
        """Runs that some task, agent or client of this moment moves."""
        ...

    def verifying(self) -> Collection[str]:
        """Runs whose checksums are being computed."""
        ...

    def free(self, hashes: Collection[str]) -> None:
        """Delete those of the blobs that nothing uses."""
        ...


@dataclass
class Patient:
    """A workspace to examine.

    Args:
        workspace_dir: Its folder.
        home: The home that it belongs to.
        store: Its records; None when they cannot be read.
        live: The server that asks; None when the doctor works alone.
        alone: No process of Windlass works in this workspace, and none can start: what lies around is nobody's.
        silent: A process holds the workspace and answers nobody.
        deep: Compare contents with checksums, and points with their summaries.
    """

    workspace_dir: str
    home: str
    store: SqlStore | None = None
    live: Live | None = None
    alone: bool = False
    silent: bool = False
    deep: bool = False
    lost: LostAndFound = field(init=False)

    def __post_init__(self) -> None:
        self.lost = LostAndFound(self.workspace_dir)

    @property
    def database(self) -> str:
        """Path of the database."""
        return self.path(FILE)

    def path(self, *parts: str) -> str:
        """A path in the workspace's folder."""
        return os.path.join(self.workspace_dir, *parts)

    def shown(self, path: str) -> str:
        """``path`` as findings name it: below the workspace or the home when it lies there."""
        for root in (self.workspace_dir, self.home):
            if path.startswith(root + os.sep):
                return os.path.relpath(path, root)
        return path

    def folder(self, run_id: str) -> WholeRun:
        """The folder of a run, with what all of its nodes keep."""
        return WholeRun(self.workspace_dir, run_id)

    def ask(self, work: Callable[[Connection], T]) -> T:
        """An answer of ``store/audit.py``; only where there is a store."""
        assert self.store is not None
        return self.store.audit(work)

    def tell(self, work: Callable[[Connection], Any]) -> None:
        """A repair of ``store/audit.py``; durable when this returns."""
        assert self.store is not None
        self.store.mend(work).result()

    def settled(self, since: float) -> bool:
        """True when whoever was busy at ``since`` (Unix seconds) is not any more: a while ago, or nobody is there."""
        return self.alone or time.time() - since > _LONG_S


@dataclass
class Problem:
    """Something found. ``mend`` repairs it and may raise OSError or AzureMLException; None when nothing can."""

    code: str
    where: str
    detail: str
    mend: Callable[[], None] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.code, self.where


Check = Callable[[Patient], Iterator[Problem]]


def agent_lives(workspace_dir: str) -> bool:
    """True while an agent of the workspace holds its lock."""
    agents = entries(os.path.join(workspace_dir, "agents"))
    return any(is_held(os.path.join(entry.path, "agent.lock")) for entry in agents)


def server_lock(workspace_dir: str) -> str:
    """The file that the workspace's server locks."""
    return os.path.join(server_dir(workspace_dir), "server.lock")


def entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; nothing when there is no such folder or it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def age_s(path: str) -> float:
    """Seconds since a file or folder was last written to; 0 when it is gone."""
    try:
        return max(0.0, time.time() - os.lstat(path).st_mtime)
    except OSError:
        return 0.0
