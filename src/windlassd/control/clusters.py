"""Compute targets of a workspace."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass import settings
from windlass.errors import ComputeTargetException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.cluster import ClusterSpec
from windlassd.compute.base import Node
from windlassd.control.core import LOCAL, Core
from windlassd.control.queue import PRIORITIES, Line
from windlassd.control.secrets import Secrets
from windlassd.control.sizes import Sizes
from windlassd.store.base import Writer

log = logging.getLogger(__name__)
_ADOPT_S = 0.5
"""How long a start waits until engines know their clusters again; runs on this machine must not wait for others.

Those that take longer, such as Ray's, go on in the background."""
_ADOPT_AGAIN_S = 10.0
_OWNER = "machines_of"
"""Option of a cluster on the machines of an attached one: that one's name."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}\Z")


class Clusters:
    """Make, change, list and delete clusters."""

    def __init__(self, core: Core, line: Line) -> None:
        self._core = core
        self._line = line
        self.sizes = Sizes(core)
        self.secrets = Secrets(core.workspace_dir)
        self._troubles: dict[str, str] = {}
        self._adopting: dict[str, asyncio.Task[None]] = {}
        core.clusters.update({spec.name: spec for spec, _, _ in core.read(lambda tx: tx.clusters())})

    def elsewhere(self) -> bool:
        """True when a cluster's nodes are other machines."""
        return any(self._is_elsewhere(spec) for spec in self._core.clusters.values())

    async def start(self) -> None:
        """After a start of the server: let each engine know its clusters again."""
        for spec in self._core.clusters.values():
            task = asyncio.create_task(self._adopt_again(spec), name=f"adopt {spec.name}")
            self._adopting[spec.name] = task
        if self._adopting:
            await asyncio.wait(self._adopting.values(), timeout=_ADOPT_S)

    def close(self) -> None:
        """This server process ends."""
        for task in self._adopting.values():
            task.cancel()
        for engine in self._core.engines.values():
            engine.close()

    def list(self) -> Sequence[Mapping[str, Any]]:
        """All of them as the wire has them; ``local`` is not among them unless somebody changed it."""
        return [self._describe(*entry) for entry in self._core.read(lambda tx: tx.clusters())]

    def get(self, name: str) -> Mapping[str, Any]:
        """One by name; raises ComputeTargetException with near matches."""
        found = self._core.read(lambda tx: tx.find_cluster(name))
        return self._describe(*found) if found else self._describe(self._core.cluster(name), 0.0, 0.0)

    def nodes(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The nodes of one, by name."""
        spec = self._core.cluster(name)
        return [to_wire(node) for node in sorted(self._core.engine(spec).nodes(spec), key=_by_name)]

    def queue(self, name: str, limit: int) -> Mapping[str, Any]:
        """The first ``limit`` of those who wait for one, in order, and how many wait in all."""
        spec = self._core.cluster(name)
        return {"waiting": list(self._line.listed(spec.name, limit)), "length": self._line.length(spec.name)}

    async def put(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make or change a cluster; one that names no engine stays on its own, or gets that of ``default_engine``."""
        spec = self._checked(self._on_engine(asked))
        try:
            await self._adopt(spec)
        except ComputeTargetException:
            if spec.name not in self._core.clusters:
                self.secrets.forget(spec.name)
            raise
        for changed in [spec, *self._sharing(spec)]:
            await self._keep(changed)
        return self.get(spec.name)

    async def put_secret(self, name: str, secret: object) -> None:
        """Keep what lets this server in at a compute target's machines; one that exists must let it in with that."""
        spec, before = self._core.clusters.get(name), self.secrets.find(name)
        self.secrets.put(name, secret)
        if spec is None:
            return  # it is attached next
        try:
            await self._adopt(spec)
        except ComputeTargetException:
            self.secrets.put(name, before)
            raise

    async def delete(self, name: str) -> None:
        """Remove a cluster that no run holds or waits for."""
        cluster = self._core.cluster(name)
        if users := [spec.name for spec in self._core.clusters.values() if spec.options.get(_OWNER) == name]:
            raise ComputeTargetException(
                f"The compute target {name!r} cannot be deleted: {', '.join(users)} "
                f"{'is' if len(users) == 1 else 'are'} on its machines. Delete {'it' if len(users) == 1 else 'them'} "
                "first.",
                error_code="conflict",
            )

        def work(tx: Writer) -> None:  # who looked before would miss a run that is being submitted
            active = [run.id for run in tx.active_runs() if run.spec.target == name]
            if active or name == LOCAL:
                raise _kept(name, active)
            tx.delete_cluster(cluster.name)

        await self._core.write(work)
        self._core.clusters.pop(cluster.name, None)
        self._line.gone(cluster)
        self.secrets.forget(name)
        if task := self._adopting.pop(name, None):
            task.cancel()
        await asyncio.to_thread(self._core.engine(cluster).discard, cluster)

    async def _keep(self, spec: ClusterSpec) -> None:
        await self._core.write(lambda tx: tx.put_cluster(spec, time.time()))
        self._core.clusters[spec.name] = spec
        self._line.changed(spec)

    def _sharing(self, owner: ClusterSpec) -> Sequence[ClusterSpec]:
        """Clusters on the machines of ``owner``, with its options as they are now."""
        users = [spec for spec in self._core.clusters.values() if spec.options.get(_OWNER) == owner.name]
        return [replace(spec, engine=owner.engine, options={**owner.options, _OWNER: owner.name}) for spec in users]

    def _on_engine(self, asked: Mapping[str, Any]) -> ClusterSpec:
        if asked.get("engine"):
            return ClusterSpec.from_wire(asked)
        if known := self._core.clusters.get(asked["name"]):
            kept = known.node_resources if asked.get("vm_size") == known.vm_size else {}
            need = asked.get("node_resources") or kept
            return ClusterSpec.from_wire(
                {**asked, "engine": known.engine, "options": known.options, "node_resources": need}
            )
        default = settings.get("default_engine")
        if default == LOCAL:
            return ClusterSpec.from_wire({**asked, "engine": LOCAL})
        owner = self._core.clusters.get(default)
        if owner is None or not self._is_elsewhere(owner) or _OWNER in owner.options:
            known_names = [s.name for s in self._core.clusters.values() if self._is_elsewhere(s)]
            raise ComputeTargetException(
                f"The setting default_engine is {default!r}, which is neither 'local' nor the name of an attached "
                f"compute target of this workspace ({', '.join(known_names) or 'none is attached'}). Attach it first "
                "(`windlass compute attach ray NAME --address …`), or set default_engine to local."
            )
        on = {"engine": owner.engine, "options": {**owner.options, _OWNER: owner.name}}
        return ClusterSpec.from_wire({**asked, **on})

    def _is_elsewhere(self, spec: ClusterSpec) -> bool:
        try:
            return self._core.engine(spec).elsewhere
        except ComputeTargetException as problem:  # such as an engine of a package that was removed
            log.error("the compute target %s cannot be used: %s", spec.name, problem)
            return False

    async def _adopt(self, spec: ClusterSpec) -> None:
        """Have its engine reach the machines, and the machines reach this server."""
        engine = self._core.engine(spec)
        if engine.elsewhere and self._core.door is not None:
            await self._core.door.open()
        await asyncio.to_thread(engine.adopt, spec)
        if (task := self._adopting.pop(spec.name, None)) is not None and task is not asyncio.current_task():
            task.cancel()
        self._troubles.pop(spec.name, None)

    async def _adopt_again(self, spec: ClusterSpec) -> None:
        self._troubles[spec.name] = "Its machines have not answered since the server started; they are being asked."
        while True:
            try:
                await asyncio.to_thread(lambda: self._core.engine(spec).adopt(spec))
            except ComputeTargetException as problem:
                if self._troubles.get(spec.name) != problem.message:
                    log.error("the compute target %s: %s", spec.name, problem)
                self._troubles[spec.name] = problem.message
                await asyncio.sleep(_ADOPT_AGAIN_S)
            else:
                self._troubles.pop(spec.name, None)
                self._line.changed(spec)
                return

    def _trouble(self, spec: ClusterSpec) -> str | None:
        """What keeps its nodes from being used, in words."""
        door = self._core.door
        unreachable = door.trouble if door is not None and self._is_elsewhere(spec) else None
        return self._troubles.get(spec.name) or unreachable

    def _checked(self, spec: ClusterSpec) -> ClusterSpec:
        if not _NAME.match(spec.name):
            raise ComputeTargetException(
                f"{spec.name!r} cannot name a compute target: letters, digits and '-', beginning with a letter."
            )
        if spec.vm_size:
            size = self.sizes.find(spec.vm_size)
            if size is None:
                hint = did_you_mean(spec.vm_size, [known.name for known in self.sizes.all()])
                raise ComputeTargetException(
                    f"Unknown vm_size {spec.vm_size!r}.{hint} AmlCompute.supported_vmsizes(ws) lists all, and "
                    "AmlCompute.define_size(ws, name, ...) makes one of your own."
                )
            spec = replace(spec, vm_size=size.name, gpus=size.gpus)
            if not spec.node_resources and self._is_elsewhere(spec):
                need = {"CPU": float(size.vcpus), **({"GPU": float(size.gpus)} if size.gpus else {})}
                spec = replace(spec, node_resources=need)
        if spec.vm_priority not in PRIORITIES:
            raise ComputeTargetException(f"vm_priority={spec.vm_priority!r} must be one of: {', '.join(PRIORITIES)}.")
        for what in ("min_nodes", "max_nodes", "idle_seconds_before_scaledown"):
            value = getattr(spec, what)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ComputeTargetException(f"{what}={value!r} must be a whole number of at least 0.")
        if not 0 <= spec.min_nodes <= spec.max_nodes or spec.max_nodes < 1:
            raise ComputeTargetException(
                f"min_nodes={spec.min_nodes} and max_nodes={spec.max_nodes} do not fit: 0 <= min_nodes <= max_nodes, "
                "and at least 1 max_nodes."
            )
        self._core.engine(spec)
        return spec

    def _describe(self, spec: ClusterSpec, created: float, modified: float) -> Mapping[str, Any]:
        capacity = self._core.engine(spec).capacity(spec)
        return {
            "spec": to_wire(spec),
            "created": created,
            "modified": modified,
            "capacity": to_wire(capacity),
            "waiting": self._line.length(spec.name),
            "trouble": self._trouble(spec),
        }


def _by_name(node: Node) -> tuple[str, int]:
    """As people sort: c-2 before c-10."""
    digits = re.search(r"(\d{1,18})$", node.name)
    return (node.name[: digits.start()], int(digits[0])) if digits else (node.name, -1)


def _kept(name: str, active: Sequence[str]) -> ComputeTargetException:
    named = ", ".join(active[:5]) + (f" and {len(active) - 5} more" if len(active) > 5 else "")
    why = f"runs use it: {named}; cancel them or wait" if active else "it always exists"
    return ComputeTargetException(f"The compute target {name!r} cannot be deleted: {why}.", error_code="conflict")
