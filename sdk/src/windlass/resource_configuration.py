"""``ResourceConfiguration``: what a model needs to be served; v1's ``azureml.core.resource_configuration``."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from windlass.errors import UserErrorException


class ResourceConfiguration:
    """Cores, memory and GPUs that a model asks for; kept with it.

    Args:
        cpu: Cores; a fraction is allowed.
        memory_in_gb: Memory.
        gpu: GPUs.
    """

    def __init__(
        self, cpu: "Optional[float]" = None, memory_in_gb: "Optional[float]" = None, gpu: "Optional[int]" = None
    ) -> None:
        for name, value in (("cpu", cpu), ("memory_in_gb", memory_in_gb), ("gpu", gpu)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
                raise UserErrorException("ResourceConfiguration(%s=%r): give a number, 0 or more." % (name, value))
        self.cpu = cpu
        self.memory_in_gb = memory_in_gb
        self.gpu = gpu

    def serialize(self) -> "Dict[str, Any]":
        """The configuration under v1's keys."""
        return {"cpu": self.cpu, "memoryInGB": self.memory_in_gb, "gpu": self.gpu}

    @staticmethod
    def deserialize(payload_obj: "Optional[Mapping[str, Any]]") -> "Optional[ResourceConfiguration]":
        """The configuration that ``serialize`` made ``payload_obj`` from; None of None."""
        if payload_obj is None:
            return None
        return ResourceConfiguration(payload_obj.get("cpu"), payload_obj.get("memoryInGB"), payload_obj.get("gpu"))

    def __repr__(self) -> str:
        return "ResourceConfiguration(cpu=%r, memory_in_gb=%r, gpu=%r)" % (self.cpu, self.memory_in_gb, self.gpu)
