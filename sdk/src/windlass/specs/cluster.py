"""What a compute target is asked to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from windlass.specs._codec import known_fields


@dataclass(frozen=True)
class ClusterSpec:
    """A named group of equal nodes behind one engine."""

    name: str
    engine: str = "local"
    vm_size: Optional[str] = None
    """A size of ``specs.vm_sizes`` or one that the workspace defines, upper case; on the local engine a label."""
    gpus: Optional[int] = None
    """GPUs of a node; the server sets it from the size. None without a size."""
    vm_priority: str = "dedicated"
    min_nodes: int = 0
    max_nodes: int = 1
    idle_seconds_before_scaledown: int = 1800
    description: Optional[str] = None
    tags: Mapping[str, str] = field(default_factory=dict)
    node_resources: Mapping[str, float] = field(default_factory=dict)
    """What one node of a job asks of an engine that hands out machines by resources, such as ``{"CPU": 4, "GPU": 1}``;
    empty: what the size says, else one CPU."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own, such as the ``address`` of a Ray cluster. Never a secret: that is kept beside."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "ClusterSpec":
        """The spec that ``to_wire`` made ``data`` from; unknown keys are left out."""
        return cls(**known_fields(cls, data))
