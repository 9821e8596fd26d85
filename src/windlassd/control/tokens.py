"""Tokens of agents on other machines and of their jobs: given out once, kept as hashes, good until their part is over.

A token is ``wla_`` (an agent's) or ``wlj_`` (a job's), a public number, and 256 bits of chance. What is kept, in
``server/agents.json``, lets nobody in who reads it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from windlass.errors import ComputeTargetException
from windlass.specs.launch import PartKey

log = logging.getLogger(__name__)
FILE = "agents.json"
LATE_S = 7 * 86400.0
"""How long an agent that was dismissed before it told of its end may still bring what it has."""
_TOKEN = re.compile(r"wl([aj])_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\Z")
_AGENT, _JOB = "a", "j"
_JOBS_KEPT = 8
_NOTHING = "0" * 64


@dataclass(frozen=True)
class Holder:
    """Whom a token stands for."""

    agent: str
    run_id: str
    attempt: int
    rank: int
    job: bool = False
    """True: the script of the part, not its agent."""
    submitted: tuple[str, ...] = ()
    """Runs that this part's script submitted."""

    @property
    def part(self) -> PartKey:
        """The one part that it may speak for."""
        return (self.run_id, self.attempt, self.rank)


@dataclass(frozen=True)
class _Entry:
    """What is kept of an agent."""

    run_id: str
    attempt: int
    rank: int
    number: str
    token: str
    """SHA-256 of the agent's secret, as hex."""
    jobs: tuple[tuple[str, str], ...] = ()
    """Number and SHA-256 of each secret given to its job."""
    submitted: tuple[str, ...] = ()
    late_since: float | None = None
    """When it was dismissed though it had not told of its end."""


class Tokens:
    """May be called from any thread; each change is on the disk when its call returns.

    Args:
        folder: The workspace's ``server`` folder.
        clock: Unix seconds.
    """

    def __init__(self, folder: str, clock: Callable[[], float] = time.time) -> None:
        self._path = os.path.join(folder, FILE)
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._agent_of: dict[str, str] = {}
        for agent, entry in _read(self._path).items():
            if entry.late_since is None or clock() - entry.late_since < LATE_S:
                self._put(agent, entry)

    def enlist(self, agent: str, run_id: str) -> str:
        """A new token for an agent; those it and its job had are good no more.

        Raises:
            ComputeTargetException: the name is not ``<run_id>.<attempt>.<rank>``.
        """
        attempt, rank = _numbers(agent, run_id)
        token, number, digest = _made(_AGENT)
        with self._lock:
            before = self._entries.get(agent)
            submitted = before.submitted if before else ()
            self._put(agent, _Entry(run_id, attempt, rank, number, digest, submitted=submitted))
            self._write()
        return token

    def job_token(self, agent: str) -> str | None:
        """A token for the script of this agent's part, beside those it has; None for one that is not enlisted."""
        with self._lock:
            entry = self._entries.get(agent)
            if entry is None or entry.late_since is not None:
                return None
            token, number, digest = _made(_JOB)
            self._put(agent, replace(entry, jobs=(*entry.jobs, (number, digest))[-_JOBS_KEPT:]))
            self._write()
        return token

    def holder(self, token: str) -> Holder | None:
        """Whom a token stands for; None for one that is unknown, forged or over."""
        found = _TOKEN.match(token)
        if found is None:
            return None
        kind, number, secret = found.groups()
        with self._lock:
            agent = self._agent_of.get(number, "")
            entry = self._entries.get(agent)
        expected = _NOTHING
        if entry is not None:
            expected = entry.token if kind == _AGENT and number == entry.number else dict(entry.jobs).get(number, "")
        if not hmac.compare_digest(_hash(kind, number, secret), expected or _NOTHING) or entry is None:
            return None
        if entry.late_since is not None and self._clock() - entry.late_since >= LATE_S:
            return None
        return Holder(agent, entry.run_id, entry.attempt, entry.rank, kind == _JOB, entry.submitted)

    def part_of(self, agent: str) -> PartKey | None:
        """The part of an enlisted agent; None for another."""
        entry = self._entries.get(agent)
        return (entry.run_id, entry.attempt, entry.rank) if entry else None

    def note_submitted(self, agent: str, run_id: str) -> None:
        """A script of this agent's part submitted a run, which it may follow from now on."""
        with self._lock:
            entry = self._entries.get(agent)
            if entry is not None and run_id not in entry.submitted:
                self._put(agent, replace(entry, submitted=(*entry.submitted, run_id)))
                self._write()

    def late(self, agent: str) -> None:
        """Dismissed before it told of its end: its job's tokens end, its own is good while it may still come."""
        with self._lock:
            entry = self._entries.get(agent)
            if entry is not None and entry.late_since is None:
                self._put(agent, replace(entry, jobs=(), late_since=self._clock()))
                self._write()

    def end(self, agent: str) -> None:
        """All its tokens are good no more."""
        with self._lock:
            if agent in self._entries:
                self._take(agent)
                self._write()

    def end_if_late(self, agent: str) -> None:
        """It was dismissed before it told of its end, and has told now."""
        with self._lock:
            entry = self._entries.get(agent)
            if entry is not None and entry.late_since is not None:
                self._take(agent)
                self._write()

    def end_jobs(self, run_id: str) -> None:
        """A run has ended: tokens of its scripts are good no more."""
        with self._lock:
            ended = [agent for agent, entry in self._entries.items() if entry.run_id == run_id and entry.jobs]
            for agent in ended:
                self._put(agent, replace(self._entries[agent], jobs=()))
            if ended:
                self._write()

    def retain(self, awaited: Callable[[PartKey], bool | None]) -> None:
        """After a start: what a server that was killed did not come to end.

        Args:
            awaited: Whether a part is still to be heard of; None when its run is gone, and its agent is forgotten.
        """
        with self._lock:
            agents = list(self._entries)
        for agent in agents:
            part = self.part_of(agent)
            found = awaited(part) if part is not None else True
            if found is None:
                self.end(agent)
            elif not found:
                self.late(agent)

    def _put(self, agent: str, entry: _Entry) -> None:
        self._take(agent)
        self._entries[agent] = entry
        self._agent_of.update(dict.fromkeys((entry.number, *(number for number, _ in entry.jobs)), agent))

    def _take(self, agent: str) -> None:
        before = self._entries.pop(agent, None)
        for number in (before.number, *(number for number, _ in before.jobs)) if before else ():
            self._agent_of.pop(number, None)

    def _write(self) -> None:
        beside = self._path + ".tmp"
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8") as f:
            json.dump({agent: asdict(entry) for agent, entry in self._entries.items()}, f)
            f.flush()
            os.fsync(fd)
        os.replace(beside, self._path)


def _read(path: str) -> Mapping[str, _Entry]:
    try:
        with open(path, encoding="utf-8") as f:
            return {str(agent): _entry(kept) for agent, kept in json.load(f).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        log.error("%s cannot be read (%r): agents on other machines are not let in any more", path, problem)
        return {}


def _entry(kept: Mapping[str, Any]) -> _Entry:
    jobs: Sequence[Sequence[str]] = kept["jobs"]
    late = kept["late_since"]
    return _Entry(
        str(kept["run_id"]), int(kept["attempt"]), int(kept["rank"]), str(kept["number"]), str(kept["token"]),
        tuple((str(number), str(digest)) for number, digest in jobs), tuple(map(str, kept["submitted"])),
        None if late is None else float(late),
    )  # fmt: skip


def _made(kind: str) -> tuple[str, str, str]:
    """A new token, its number, and what is kept of it."""
    number, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return f"wl{kind}_{number}_{secret}", number, _hash(kind, number, secret)


def _hash(kind: str, number: str, secret: str) -> str:
    return hashlib.sha256(f"wl{kind}_{number}_{secret}".encode()).hexdigest()


def _numbers(agent: str, run_id: str) -> tuple[int, int]:
    numbers = agent.removeprefix(f"{run_id}.").split(".") if agent.startswith(f"{run_id}.") else []
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ComputeTargetException(
            f"{agent!r} cannot name an agent on another machine: it must be {run_id}.<attempt>.<rank>."
        )
    return int(numbers[0]), int(numbers[1])
