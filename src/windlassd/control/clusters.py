"""Compute targets of a workspace."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.errors import ComputeTargetException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.cluster import ClusterSpec
from windlassd.control.core import LOCAL, Core
from windlassd.control.queue import Line
from windlassd.control.sizes import Sizes

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}\Z")


class Clusters:
    """Make, change, list and delete clusters."""

    def __init__(self, core: Core, line: Line) -> None:
        self._core = core
        self._line = line
        self.sizes = Sizes(core)
        core.clusters.update({spec.name: spec for spec, _, _ in core.read(lambda tx: tx.clusters())})

    def list(self) -> Sequence[Mapping[str, Any]]:
        """All of them as the wire has them; ``local`` is not among them unless somebody changed it."""
        return [self._describe(*entry) for entry in self._core.read(lambda tx: tx.clusters())]

    def get(self, name: str) -> Mapping[str, Any]:
        """One by name; raises ComputeTargetException with near matches."""
        found = self._core.read(lambda tx: tx.find_cluster(name))
        return self._describe(*found) if found else self._describe(self._core.cluster(name), 0.0, 0.0)

    async def put(self, spec: ClusterSpec) -> Mapping[str, Any]:
        """Make or change a cluster."""
        spec = self._checked(spec)
        await self._core.write(lambda tx: tx.put_cluster(spec, time.time()))
        self._core.clusters[spec.name] = spec
        self._line.changed(spec)
        return self.get(spec.name)

    async def delete(self, name: str) -> None:
        """Remove a cluster that no run holds or waits for."""
        cluster = self._core.cluster(name)
        active = [r.id for r in self._core.read(lambda tx: tx.active_runs()) if r.spec.target == name]
        if active or name == LOCAL:
            why = f"runs use it: {', '.join(active[:5])}; cancel them or wait" if active else "it always exists"
            raise ComputeTargetException(
                f"The compute target {name!r} cannot be deleted: {why}.", error_code="conflict"
            )
        await self._core.write(lambda tx: tx.delete_cluster(cluster.name))
        self._core.clusters.pop(cluster.name, None)

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
        }
