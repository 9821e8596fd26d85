"""What fits on the machines of a Ray cluster: arithmetic, without Ray."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Resources = Mapping[str, float]
Holding = tuple[str, Resources]
"""Machine id and what is held there."""
_ENDLESS = 1 << 20
"""Nodes of a job that asks for nothing countable: as many as one likes."""


@dataclass(frozen=True)
class RayMachine:
    """A node of Ray."""

    id: str
    name: str
    address: str
    total: Resources
    others: Resources = field(default_factory=dict)
    """What people who do not use Windlass have of it."""
    leaving: bool = False
    trouble: str | None = None
    """Why Windlass cannot use it."""

    def room(self, taken: Resources, need: Resources) -> int:
        """How many nodes with ``need`` fit beside what is ``taken``."""
        if self.leaving or self.trouble:
            return 0
        return _fits({name: self.total.get(name, 0.0) - self.others.get(name, 0.0) - taken.get(name, 0.0)
                      for name in need}, need)  # fmt: skip

    def could(self, need: Resources) -> bool:
        """Whether one node fits when nobody else is there."""
        return not self.trouble and _fits(self.total, need) > 0


def machines_of(told: Sequence[Mapping[str, Any]], troubles: Mapping[str, str]) -> Mapping[str, RayMachine]:
    """Machines by id, under names that are each machine's own."""
    named: dict[str, int] = {}
    for entry in told:
        named[entry["name"]] = named.get(entry["name"], 0) + 1
    return {
        entry["id"]: RayMachine(
            entry["id"], entry["name"] if named[entry["name"]] == 1 else f"{entry['name']}-{entry['id'][:6]}",
            entry["address"], entry["total"], entry["others"], bool(entry["leaving"]), troubles.get(entry["id"]),
        )
        for entry in told
    }  # fmt: skip


def taken(holdings: Iterable[Holding]) -> Mapping[str, Resources]:
    """Machine id → what all these hold there."""
    sums: dict[str, dict[str, float]] = {}
    for machine, resources in holdings:
        there = sums.setdefault(machine, {})
        for name, amount in resources.items():
            there[name] = there.get(name, 0.0) + amount
    return sums


def likely_places(
    machines: Iterable[RayMachine], holdings: Sequence[Holding], waiting: Mapping[str, tuple[int, Resources]]
) -> Mapping[str, Sequence[str]]:
    """For groups that Ray has not placed yet, where they fit best: fewer machines than asked for when it lacks some.

    Args:
        machines: All there are.
        holdings: What is taken of them.
        waiting: Group → nodes and what each asks for, in the order in which they asked.
    """
    found, all_machines = list(holdings), list(machines)
    places: dict[str, Sequence[str]] = {}
    for group, (count, need) in waiting.items():
        there = taken(found)
        rooms = [(machine.room(there.get(machine.id, {}), need), machine.id) for machine in all_machines]
        best = sorted((room for room in rooms if room[0] > 0), key=lambda room: (-room[0], room[1]))
        places[group] = [machine for _, machine in best[:count]]
        found += [(machine, need) for machine in places[group]]
    return places


def by_rank(bundles: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """Numbers of the bundles in the order of their nodes' ranks, which goes by address: Ray's order means nothing."""

    def key(number: int) -> tuple[int, int, str]:
        try:
            address = ipaddress.ip_address(bundles[number]["address"])
        except ValueError:
            return (9, 0, str(bundles[number]["address"]))
        return (address.version, int(address), str(bundles[number]["node"]))

    return sorted(range(len(bundles)), key=key)


def words_of(need: Resources) -> str:
    """Such as ``CPU 4, GPU 1``."""
    shown = {name: amount / 2**30 if name == "memory" else amount for name, amount in need.items()}
    return ", ".join(f"{name} {amount:g}{' GiB' if name == 'memory' else ''}" for name, amount in shown.items())


def _fits(free: Resources, need: Resources) -> int:
    counts = [math.floor(free.get(name, 0.0) / amount + 1e-6) for name, amount in need.items() if amount > 0]
    return max(0, min(counts, default=_ENDLESS))
