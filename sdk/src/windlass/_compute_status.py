"""The state of a cluster in v1's shape: ``get_status().serialize()`` and what hangs below it."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from windlass._details import iso_time

_COUNTED = ("target", "current", "idle", "busy", "preparing", "leaving", "unusable")


class ScaleSettings:
    """How far a cluster scales."""

    def __init__(self, minimum_node_count: int, maximum_node_count: int, idle_seconds_before_scaledown: int) -> None:
        self.minimum_node_count = minimum_node_count
        self.maximum_node_count = maximum_node_count
        self.idle_seconds_before_scaledown = idle_seconds_before_scaledown

    def serialize(self) -> "Dict[str, Any]":
        """The settings under v1's keys; the idle time as an ISO 8601 duration."""
        return {
            "minNodeCount": self.minimum_node_count,
            "maxNodeCount": self.maximum_node_count,
            "nodeIdleTimeBeforeScaleDown": "PT%dS" % self.idle_seconds_before_scaledown,
        }

    @staticmethod
    def deserialize(object_dict: "Mapping[str, Any]") -> "ScaleSettings":
        """The settings that ``serialize`` made ``object_dict`` from."""
        idle = str(object_dict["nodeIdleTimeBeforeScaleDown"])
        return ScaleSettings(object_dict["minNodeCount"], object_dict["maxNodeCount"], int(idle[2:-1]))


class AmlComputeNodeStateCounts:
    """How many nodes are in which state."""

    def __init__(
        self, idle_node_count: int, leaving_node_count: int, preempted_node_count: int, preparing_node_count: int,
        running_node_count: int, unusable_node_count: int,
    ) -> None:  # fmt: skip
        self.idle_node_count = idle_node_count
        self.leaving_node_count = leaving_node_count
        self.preempted_node_count = preempted_node_count
        self.preparing_node_count = preparing_node_count
        self.running_node_count = running_node_count
        self.unusable_node_count = unusable_node_count

    def serialize(self) -> "Dict[str, int]":
        """The counts under v1's keys."""
        return {
            "preparingNodeCount": self.preparing_node_count,
            "runningNodeCount": self.running_node_count,
            "idleNodeCount": self.idle_node_count,
            "unusableNodeCount": self.unusable_node_count,
            "leavingNodeCount": self.leaving_node_count,
            "preemptedNodeCount": self.preempted_node_count,
        }

    @staticmethod
    def deserialize(object_dict: "Mapping[str, int]") -> "AmlComputeNodeStateCounts":
        """The counts that ``serialize`` made ``object_dict`` from."""
        return AmlComputeNodeStateCounts(
            object_dict["idleNodeCount"], object_dict["leavingNodeCount"], object_dict["preemptedNodeCount"],
            object_dict["preparingNodeCount"], object_dict["runningNodeCount"], object_dict["unusableNodeCount"],
        )  # fmt: skip


class AmlComputeStatus:
    """The state of a cluster at one moment."""

    def __init__(
        self, allocation_state: str, allocation_state_transition_time: "Optional[str]", creation_time: "Optional[str]",
        current_node_count: int, errors: Any, modified_time: "Optional[str]",
        node_state_counts: AmlComputeNodeStateCounts, provisioning_state: str,
        provisioning_state_transition_time: "Optional[str]", scale_settings: ScaleSettings, target_node_count: int,
        vm_priority: str, vm_size: "Optional[str]",
    ) -> None:  # fmt: skip
        self.allocation_state = allocation_state
        self.allocation_state_transition_time = allocation_state_transition_time
        self.creation_time = creation_time
        self.current_node_count = current_node_count
        self.errors = errors
        self.modified_time = modified_time
        self.node_state_counts = node_state_counts
        self.provisioning_state = provisioning_state
        self.provisioning_state_transition_time = provisioning_state_transition_time
        self.scale_settings = scale_settings
        self.target_node_count = target_node_count
        self.vm_priority = vm_priority
        self.vm_size = vm_size

    def serialize(self) -> "Dict[str, Any]":
        """The state under v1's keys."""
        return {
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "nodeStateCounts": self.node_state_counts.serialize(),
            "allocationState": self.allocation_state,
            "allocationStateTransitionTime": self.allocation_state_transition_time,
            "errors": self.errors,
            "creationTime": self.creation_time,
            "modifiedTime": self.modified_time,
            "provisioningState": self.provisioning_state,
            "provisioningStateTransitionTime": self.provisioning_state_transition_time,
            "scaleSettings": self.scale_settings.serialize(),
            "vmPriority": self.vm_priority,
            "vmSize": self.vm_size,
        }

    @staticmethod
    def deserialize(object_dict: "Mapping[str, Any]") -> "AmlComputeStatus":
        """The state that ``serialize`` made ``object_dict`` from."""
        return AmlComputeStatus(
            object_dict["allocationState"], object_dict["allocationStateTransitionTime"], object_dict["creationTime"],
            object_dict["currentNodeCount"], object_dict["errors"], object_dict["modifiedTime"],
            AmlComputeNodeStateCounts.deserialize(object_dict["nodeStateCounts"]), object_dict["provisioningState"],
            object_dict["provisioningStateTransitionTime"], ScaleSettings.deserialize(object_dict["scaleSettings"]),
            object_dict["targetNodeCount"], object_dict["vmPriority"], object_dict["vmSize"],
        )  # fmt: skip

    def __repr__(self) -> str:
        return "AmlComputeStatus(provisioning_state=%r, current_node_count=%d, target_node_count=%d)" % (
            self.provisioning_state, self.current_node_count, self.target_node_count,
        )  # fmt: skip


def status_from_wire(data: "Mapping[str, Any]") -> AmlComputeStatus:
    """The state in a ``GET /v1/computes/NAME`` answer."""
    spec, capacity = data["spec"], data.get("capacity") or {}
    number = {name: int(capacity.get(name) or 0) for name in _COUNTED}
    current, target = number["current"], number["target"]
    counts = AmlComputeNodeStateCounts(
        idle_node_count=number["idle"], leaving_node_count=number["leaving"], preempted_node_count=0,
        preparing_node_count=number["preparing"], running_node_count=number["busy"],
        unusable_node_count=number["unusable"],
    )  # fmt: skip
    steady = target == current and not number["preparing"] and not number["leaving"]
    trouble = data.get("trouble")
    modified = iso_time(data.get("modified"))
    return AmlComputeStatus(
        allocation_state="Steady" if steady else "Resizing", allocation_state_transition_time=modified,
        creation_time=iso_time(data.get("created")), current_node_count=current,
        errors=[{"code": "unreachable", "message": trouble}] if trouble else None, modified_time=modified,
        node_state_counts=counts, provisioning_state="Succeeded", provisioning_state_transition_time=modified,
        scale_settings=ScaleSettings(spec["min_nodes"], spec["max_nodes"], spec["idle_seconds_before_scaledown"]),
        target_node_count=target, vm_priority=str(spec["vm_priority"]).capitalize(), vm_size=spec.get("vm_size"),
    )  # fmt: skip
