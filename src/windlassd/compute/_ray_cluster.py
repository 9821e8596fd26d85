"""A Ray cluster as its driver tells of it: whether it is there, its machines, what they are, who else uses them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import windlassd
from windlass.errors import ComputeTargetException
from windlass.specs._codec import known_fields
from windlassd.compute._ray_line import RayLine, Way
from windlassd.compute._ray_slots import RayMachine, Resources, machines_of
from windlassd.compute.base import Target

log = logging.getLogger(__name__)
PATIENCE_S = 60.0
"""For a cluster to say what it is, when it is attached."""


class RayCluster:
    """One Ray cluster. May be asked from any thread.

    Args:
        way: How it is reached.
        came: Called when a driver has connected: it knows of nothing yet.
        hear: Called with what the driver says of jobs.
        tick: Called about once a second.
        changed: Called when something that can be asked here is different now.
    """

    def __init__(
        self, way: Way, *, came: Callable[[RayCluster], None], hear: Callable[[RayCluster, Mapping[str, Any]], None],
        tick: Callable[[RayCluster], None], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.way = way
        self._came, self._hear_job, self._changed = came, hear, changed
        self._lock = threading.Condition()
        self._told: Sequence[Mapping[str, Any]] | None = None
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._asked: set[str] = set()
        self._machines: Mapping[str, RayMachine] = {}
        self.up = False
        """Whether a driver is connected."""
        self.problem: str | None = None
        """Why it cannot be used now."""
        self.refused = False
        """Whether its last driver was not let in, or does not fit."""
        self._since = time.monotonic()
        self.autoscaler = False
        """Whether Ray adds machines by itself."""
        self.coming = 0
        """Machines that Ray's autoscaler is starting."""
        self.grew_at = 0.0
        """When a machine last came, or was on its way."""
        self.failure = ""
        """Why its autoscaler could not start one of late."""
        self._line = RayLine(way, self._hear, lambda: tick(self))

    def send(self, **order: Any) -> None:
        """Have the driver do something, if there is one that is connected; the next one is told what still holds."""
        if self.up:
            self._line.send(**order)

    def close(self) -> None:
        """End the driver."""
        self._line.close()

    @property
    def driver_pid(self) -> int | None:
        """The driver's process."""
        return self._line.pid

    @property
    def machines(self) -> Mapping[str, RayMachine]:
        """By Ray's id; none while it cannot be reached."""
        return self._machines if self.problem is None else {}

    def silent_s(self) -> float:
        """Seconds for which it cannot be reached."""
        return 0.0 if self.problem is None else time.monotonic() - self._since

    def wait(self, need: Resources) -> None:
        """Return when it has said what it is.

        Raises:
            ComputeTargetException: it cannot be used, or a machine that fits ``need`` cannot.
        """
        deadline = time.monotonic() + PATIENCE_S
        with self._lock:
            while not (self.refused or (self.up and self._told is not None and not self._unknown())):
                if not self._lock.wait(deadline - time.monotonic()):
                    raise ComputeTargetException(
                        self.problem
                        or f"The Ray cluster at {self.way.address} did not say within {PATIENCE_S:g} s what it has."
                    )
            if self.refused:
                raise ComputeTargetException(str(self.problem))
            useful = [machine for machine in self._machines.values() if _has(machine.total, need)]
        bad = [f"{machine.name}: {machine.trouble}" for machine in useful if machine.trouble]
        if bad:
            raise ComputeTargetException(
                f"{len(bad)} of {len(useful)} nodes of the Ray cluster at {self.way.address} cannot run Windlass's "
                f"agent. {bad[0]}"
            )

    def target(self) -> Target:
        """What its machines are: packages for the oldest platform run on all.

        Raises:
            ComputeTargetException: none can be asked.
        """
        with self._lock:
            known = [self._facts[i]["facts"] for i in self._machines if self._facts.get(i, {}).get("facts")]
            known = known or [facts["facts"] for facts in self._facts.values() if facts.get("facts")]
        if not known:
            raise ComputeTargetException(
                self.problem or f"No node of the Ray cluster at {self.way.address} has said what it is."
            )
        found = [Target(**known_fields(Target, facts)) for facts in known]
        common = set.intersection(*(set(one.pythons.items()) for one in found))
        oldest = min(found, key=lambda one: _version(one.platform))
        return Target(oldest.platform, dict(sorted(common)), any(one.gpus for one in found))

    def _hear(self, said: Mapping[str, Any]) -> None:
        with self._lock:
            kind = next(iter(said))
            before = self._shown()
            note = getattr(self, f"_note_{kind}", None)
            if note is not None:
                note(said)
                self._lock.notify_all()
            different = before != self._shown()
        if kind == "hello":
            self._came(self)
        elif note is None:
            self._hear_job(self, said)
        if different:
            self._changed()

    def _shown(self) -> object:
        return (self.problem, self.autoscaler, self.coming, self.failure, self._machines)

    def _note_hello(self, said: Mapping[str, Any]) -> None:
        log.info("Ray %s at %s is connected", said["hello"]["ray"], self.way.address)
        self.up, self.refused, self.problem, self._told = True, False, None, None
        self._asked.clear()

    def _note_refused(self, said: Mapping[str, Any]) -> None:
        self.refused = True
        self._fail(str(said["message"]))

    def _note_gone(self, said: Mapping[str, Any]) -> None:
        self.up = False
        if self.problem is None:
            self._fail(str(said["gone"]))

    def _note_away(self, said: Mapping[str, Any]) -> None:
        if said["away"]:
            self._fail(f"The head of the Ray cluster at {self.way.address} does not answer.")
        else:
            self.problem = None

    def _note_trouble(self, said: Mapping[str, Any]) -> None:
        log.warning("Ray at %s: %s", self.way.address, said["trouble"])

    def _note_nodes(self, said: Mapping[str, Any]) -> None:
        self._told = said["nodes"]
        self.autoscaler, self.coming, self.problem = bool(said["autoscaler"]), int(said["coming"]), None
        self.failure = str(said.get("failure") or "")
        for node in self._unknown():
            if node not in self._asked:
                self._asked.add(node)
                self._line.send(do="facts", node=node)
        self._see_machines()

    def _note_facts(self, said: Mapping[str, Any]) -> None:
        self._facts[said["facts"]] = {"error": said["error"]} if "error" in said else {"facts": said["told"]}
        self._see_machines()

    def _see_machines(self) -> None:
        if self._told is not None:
            if (self.coming and not self.failure) or len(self._told) > len(self._machines):
                self.grew_at = time.monotonic()
            self._machines = machines_of(self._told, {i: text for i in self._facts if (text := self._trouble_of(i))})

    def _trouble_of(self, node: str) -> str | None:
        known = self._facts[node]
        if "error" in known:
            return str(known["error"])
        version = known["facts"].get("version")
        if version and version != windlassd.__version__:
            log.info("a node of Ray at %s has Windlass %s", self.way.address, version)  # its agent says which protocol
        return None

    def _unknown(self) -> Sequence[str]:
        return [node["id"] for node in self._told or () if node["id"] not in self._facts]

    def _fail(self, words: str) -> None:
        if self.problem is None:
            self._since = time.monotonic()
            log.warning("%s", words)
        self.problem = words


def _has(total: Resources, need: Resources) -> bool:
    return all(total.get(name, 0.0) >= amount for name, amount in need.items())


def _version(platform: str) -> tuple[int, ...]:
    return tuple(int(part) for part in platform.rpartition("glibc")[2].split(".") if part.isdigit())
