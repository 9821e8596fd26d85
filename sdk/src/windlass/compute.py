"""``ComputeTarget`` and ``AmlCompute``: where runs run; v1's ``azureml.core.compute``."""

from __future__ import annotations

import importlib
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional

from windlass._compute_status import (
    AmlComputeNodeStateCounts,
    AmlComputeStatus,
    ScaleSettings,
    status_from_wire,
)
from windlass._details import iso_time, unix_time
from windlass._not_offered import AbsentMethod, OnlyDefault, not_offered, refuse_options
from windlass._transport.client import quote
from windlass.errors import ComputeTargetException, UserErrorException, did_you_mean
from windlass.specs import vm_sizes
from windlass.specs._codec import to_wire
from windlass.specs.cluster import ClusterSpec

if TYPE_CHECKING:
    from windlass.run import Run
    from windlass.workspace import Workspace

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]\Z|[A-Za-z]\Z")
_PRIORITIES = ("dedicated", "lowpriority")
_AZURE_SIZES = ("STANDARD_", "BASIC_")
_POLL_S = 1.0
_KINDS = {"ray": ("windlass.ray_compute", "RayCompute")}
"""Engine → module and class of its attached targets."""
_AZURE_ONLY = "It is about Azure resources; leave it out."
_ACTIVE = ("NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested",
           "NotResponding")  # fmt: skip

__all__ = [
    "AmlCompute",
    "AmlComputeNodeStateCounts",
    "AmlComputeProvisioningConfiguration",
    "AmlComputeStatus",
    "ComputeTarget",
    "ComputeTargetAttachConfiguration",
    "ComputeTargetProvisioningConfiguration",
    "ScaleSettings",
]


class ComputeTargetProvisioningConfiguration:
    """What a new compute target is asked to be."""

    def __init__(self, type: str, location: "Optional[str]") -> None:
        self.type = type
        self.location = location

    def validate_configuration(self) -> None:
        """Raise ComputeTargetException when a value is wrong."""


class AmlComputeProvisioningConfiguration(ComputeTargetProvisioningConfiguration):
    """What a new cluster is asked to be; see ``AmlCompute.provisioning_configuration``."""

    admin_username = OnlyDefault(None, _AZURE_ONLY)
    admin_user_password = OnlyDefault(None, _AZURE_ONLY)
    admin_user_ssh_key = OnlyDefault(None, _AZURE_ONLY)
    vnet_resourcegroup_name = OnlyDefault(None, _AZURE_ONLY)
    vnet_name = OnlyDefault(None, _AZURE_ONLY)
    subnet_name = OnlyDefault(None, _AZURE_ONLY)
    identity_type = OnlyDefault(None, _AZURE_ONLY)
    identity_id = OnlyDefault(None, _AZURE_ONLY)
    compute_location = OnlyDefault(None, _AZURE_ONLY)
    enable_node_public_ip = OnlyDefault(True, _AZURE_ONLY)
    remote_login_port_public_access = OnlyDefault("NotSpecified", _AZURE_ONLY)

    def __init__(
        self, vm_size: str = "", vm_priority: str = "dedicated", min_nodes: int = 0, max_nodes: "Optional[int]" = None,
        idle_seconds_before_scaledown: "Optional[int]" = 1800, admin_username: Any = None,
        admin_user_password: Any = None, admin_user_ssh_key: Any = None, vnet_resourcegroup_name: Any = None,
        vnet_name: Any = None, subnet_name: Any = None, tags: "Optional[Dict[str, str]]" = None,
        description: "Optional[str]" = None, remote_login_port_public_access: str = "NotSpecified",
        identity_type: Any = None, identity_id: Any = None, compute_location: Any = None,
        enable_node_public_ip: bool = True,
    ) -> None:  # fmt: skip
        super().__init__("AmlCompute", compute_location)
        refuse_options("AmlCompute.provisioning_configuration", {
            "admin_username": (admin_username, None, _AZURE_ONLY),
            "admin_user_password": (admin_user_password and "(hidden)", None, _AZURE_ONLY),
            "admin_user_ssh_key": (admin_user_ssh_key, None, _AZURE_ONLY),
            "vnet_resourcegroup_name": (vnet_resourcegroup_name, None, _AZURE_ONLY),
            "vnet_name": (vnet_name, None, _AZURE_ONLY),
            "subnet_name": (subnet_name, None, _AZURE_ONLY),
            "remote_login_port_public_access": (remote_login_port_public_access, "NotSpecified", _AZURE_ONLY),
            "identity_type": (identity_type, None, _AZURE_ONLY),
            "identity_id": (identity_id, None, _AZURE_ONLY),
            "location": (compute_location, None, _AZURE_ONLY),
            "enable_node_public_ip": (enable_node_public_ip, True, _AZURE_ONLY),
        })  # fmt: skip
        self.vm_size = vm_size
        self.vm_priority = vm_priority
        self.tags = tags
        self.description = description
        self.scale_settings = ScaleSettings(
            min_nodes,
            1 if max_nodes is None else max_nodes,
            1800 if idle_seconds_before_scaledown is None else idle_seconds_before_scaledown,
        )
        self.validate_configuration()

    def validate_configuration(self) -> None:
        """Raise ComputeTargetException when a value is wrong; the message names it and what is allowed.

        A size that is not named as Azure's are may be one of the workspace's own: ``ComputeTarget.create`` knows.
        """
        size = self.vm_size
        if size and (not isinstance(size, str) or (_is_azures(size) and vm_sizes.find(size) is None)):
            raise ComputeTargetException(
                "vm_size=%r is not a size Windlass knows.%s AmlCompute.supported_vmsizes(ws) lists all."
                % (size, did_you_mean(str(size), [known.name for known in vm_sizes.SIZES]))
            )
        if str(self.vm_priority).lower() not in _PRIORITIES:
            raise ComputeTargetException(
                "vm_priority=%r must be one of: %s." % (self.vm_priority, ", ".join(_PRIORITIES))
            )
        scale = self.scale_settings
        check_scale(scale.minimum_node_count, scale.maximum_node_count, scale.idle_seconds_before_scaledown)

    def _spec(self, name: str) -> ClusterSpec:
        return ClusterSpec(
            name=name, vm_size=(self.vm_size or "").upper() or None, vm_priority=str(self.vm_priority).lower(),
            min_nodes=self.scale_settings.minimum_node_count, max_nodes=self.scale_settings.maximum_node_count,
            idle_seconds_before_scaledown=self.scale_settings.idle_seconds_before_scaledown,
            description=self.description, tags=dict(self.tags or {}),
        )  # fmt: skip


class ComputeTargetAttachConfiguration:
    """Which existing machines a compute target shall be."""

    def __init__(self, type: str) -> None:
        self.type = type

    def validate_configuration(self) -> None:
        """Raise ComputeTargetException when a value is wrong."""

    def _attach(self, workspace: "Workspace", name: str) -> "ComputeTarget":
        raise NotImplementedError


class ComputeTarget:
    """A named place where runs run. ``ComputeTarget(workspace, name)`` is the target of its own class.

    Raises:
        ComputeTargetException: the workspace has none of that name.
    """

    type = "AmlCompute"

    def __new__(cls, workspace: "Workspace", name: str) -> "ComputeTarget":
        """An object of the class that fits the target; one that turns out to be of another kind becomes that."""
        return super().__new__(AmlCompute if cls is ComputeTarget else cls)

    def __init__(self, workspace: "Workspace", name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ComputeTargetException("name=%r must be the name of a compute target." % (name,))
        self._begin(workspace, workspace._client.get("/v1/computes/%s" % quote(name)))

    @classmethod
    def _of(cls, workspace: "Workspace", data: "Mapping[str, Any]") -> "AmlCompute":
        target = object.__new__(AmlCompute)
        target._begin(workspace, data)
        return target

    def _begin(self, workspace: "Workspace", data: "Mapping[str, Any]") -> None:
        kind = _KINDS.get(data["spec"].get("engine") or "")
        if kind is not None and type(self) is AmlCompute and not _is_shared(data["spec"]):
            self.__class__ = getattr(importlib.import_module(kind[0]), kind[1])
        self.workspace = workspace
        self._data = data
        self._spec = ClusterSpec.from_wire(data["spec"])
        self.created_on = iso_time(data.get("created") or None)
        self.modified_on = iso_time(data.get("modified") or None)

    @staticmethod
    def create(
        workspace: "Workspace", name: str, provisioning_configuration: ComputeTargetProvisioningConfiguration
    ) -> "AmlCompute":
        """Make a compute target, or change the one of that name to this configuration.

        Raises:
            ComputeTargetException: the name or the configuration is wrong.
        """
        if not isinstance(provisioning_configuration, AmlComputeProvisioningConfiguration):
            raise ComputeTargetException(
                "provisioning_configuration=%r: give AmlCompute.provisioning_configuration(...)."
                % (provisioning_configuration,)
            )
        check_name(name)
        provisioning_configuration.validate_configuration()
        wire = to_wire(provisioning_configuration._spec(name))
        wire.pop("engine")  # the one it has, else the setting default_engine's: the server knows
        return ComputeTarget._of(workspace, workspace._client.put("/v1/computes/%s" % quote(name), wire))

    @staticmethod
    def attach(
        workspace: "Workspace", name: str, attach_configuration: ComputeTargetAttachConfiguration
    ) -> "ComputeTarget":
        """Make existing machines a compute target, or the one of that name what this configuration says.

        Raises:
            ComputeTargetException: the name or the configuration is wrong, or the machines cannot be reached or used.
        """
        if not isinstance(attach_configuration, ComputeTargetAttachConfiguration):
            raise ComputeTargetException(
                "attach_configuration=%r: give RayCompute.attach_configuration(...); what Azure has cannot be attached."
                % (attach_configuration,)
            )
        check_name(name)
        attach_configuration.validate_configuration()
        return attach_configuration._attach(workspace, name)

    @staticmethod
    def list(workspace: "Workspace") -> "List[ComputeTarget]":
        """All compute targets of the workspace."""
        return [ComputeTarget._of(workspace, data) for data in workspace._client.get("/v1/computes")["computes"]]

    @property
    def name(self) -> str:
        """Its name."""
        return self._spec.name

    @property
    def id(self) -> str:
        """v1's id; here the name."""
        return self._spec.name

    @property
    def location(self) -> str:
        """Where it is: this machine."""
        return "local"

    @property
    def tags(self) -> "Dict[str, str]":
        """Its tags."""
        return dict(self._spec.tags)

    @property
    def description(self) -> "Optional[str]":
        """Text for people."""
        return self._spec.description

    @property
    def provisioning_state(self) -> str:
        """v1's state; a target that is there has succeeded."""
        return "Succeeded"

    @property
    def provisioning_errors(self) -> None:
        """v1's errors; there are none."""
        return None

    @property
    def cluster_resource_id(self) -> None:
        """v1's Azure resource; there is none."""
        return None

    @property
    def cluster_location(self) -> str:
        """Where it is: this machine."""
        return self.location

    @property
    def is_attached(self) -> bool:
        """v1's: True for a target made elsewhere."""
        return False

    def refresh_state(self) -> None:
        """Read it afresh from the server."""
        self._begin(self.workspace, self.workspace._client.get("/v1/computes/%s" % quote(self.name)))

    def delete(self) -> None:
        """Remove it.

        Raises:
            ComputeTargetException: runs hold it or wait for it.
        """
        try:
            self.workspace._client.delete("/v1/computes/%s" % quote(self.name))
        except UserErrorException as e:
            raise ComputeTargetException(e.message, error_code=e.error_code) from e

    @staticmethod
    def deserialize(workspace: "Workspace", object_dict: "Mapping[str, Any]") -> "AmlCompute":
        """The target that ``serialize`` made ``object_dict`` from, as it was then; ``refresh_state`` reads it afresh.

        Raises:
            ComputeTargetException: ``object_dict`` is nothing that ``serialize`` makes.
        """
        try:
            return ComputeTarget._of(workspace, _wire_of(object_dict))
        except (KeyError, TypeError, AttributeError) as e:
            raise ComputeTargetException(
                "object_dict=%r: give what compute_target.serialize() returned (%r is missing)." % (object_dict, e)
            ) from e

    def get_status(self) -> AmlComputeStatus:
        """The state now."""
        raise NotImplementedError

    def serialize(self) -> "Dict[str, Any]":
        """What is known of it, under v1's keys."""
        raise NotImplementedError

    def wait_for_completion(self, show_output: bool = False, is_delete_operation: bool = False) -> None:
        """Return when it is ready."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "%s(name=%r, vm_size=%r, max_nodes=%d)" % (
            type(self).__name__, self.name, self._spec.vm_size, self._spec.max_nodes,
        )  # fmt: skip

    def detach(self) -> None:
        """v1's; a cluster that was made here is deleted instead."""
        raise not_offered("%s.detach()" % type(self).__name__, "Use delete().")


class AmlCompute(ComputeTarget):
    """A cluster of equal nodes. On this machine nodes are slots: there are always ``max_nodes`` of them."""

    admin_username = admin_user_password = admin_user_ssh_key = None
    vnet_resourcegroup_name = vnet_name = subnet_name = None
    identity_type = identity_id = None
    remote_login_port_public_access = "NotSpecified"

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "", vm_priority: str = "dedicated", min_nodes: int = 0, max_nodes: "Optional[int]" = None,
        idle_seconds_before_scaledown: "Optional[int]" = 1800, admin_username: Any = None,
        admin_user_password: Any = None, admin_user_ssh_key: Any = None, vnet_resourcegroup_name: Any = None,
        vnet_name: Any = None, subnet_name: Any = None, tags: "Optional[Dict[str, str]]" = None,
        description: "Optional[str]" = None, remote_login_port_public_access: str = "NotSpecified",
        identity_type: Any = None, identity_id: Any = None, location: Any = None, enable_node_public_ip: bool = True,
    ) -> AmlComputeProvisioningConfiguration:  # fmt: skip
        """What a new cluster shall be.

        Args:
            vm_size: An Azure size such as ``STANDARD_NC6``; on this machine a label. Empty: none.
            vm_priority: ``dedicated`` or ``lowpriority``.
            min_nodes: Nodes that are kept when idle.
            max_nodes: Most nodes; None is 1.
            idle_seconds_before_scaledown: Idle time after which a node is given up.
            tags: Of the target.
            description: Text for people.

        Raises:
            ComputeTargetException: a value is wrong; for an unknown size near matches are named.
            NotOffered: an option about Azure resources was given.
        """
        return AmlComputeProvisioningConfiguration(
            vm_size, vm_priority, min_nodes, max_nodes, idle_seconds_before_scaledown, admin_username,
            admin_user_password, admin_user_ssh_key, vnet_resourcegroup_name, vnet_name, subnet_name, tags, description,
            remote_login_port_public_access, identity_type, identity_id, location, enable_node_public_ip,
        )  # fmt: skip

    def wait_for_completion(  # type: ignore[override]  # v1's own order of arguments
        self, show_output: bool = False, min_node_count: "Optional[int]" = None, timeout_in_minutes: float = 25,
        is_delete_operation: bool = False,
    ) -> None:  # fmt: skip
        """Return when the cluster is ready, or gone.

        Args:
            show_output: Print v1's progress.
            min_node_count: Nodes that must be there; None is the cluster's own ``min_nodes``.
            timeout_in_minutes: Longest wait.
            is_delete_operation: Wait until it is gone instead.

        Raises:
            ComputeTargetException: ``min_node_count`` is more than the cluster may have, or the time is over.
        """
        wanted = self._spec.min_nodes if min_node_count is None else min_node_count
        if not is_delete_operation and wanted > self._spec.max_nodes:
            raise ComputeTargetException(
                "min_node_count=%d is more than %r may have (max_nodes=%d)." % (wanted, self.name, self._spec.max_nodes)
            )
        if show_output:
            sys.stdout.write("Deleting\n" if is_delete_operation else "Creating\n")
        deadline = time.monotonic() + 60.0 * timeout_in_minutes
        while not (self._is_gone() if is_delete_operation else self._has_nodes(wanted)):
            if time.monotonic() > deadline:
                raise ComputeTargetException(
                    "After %g minutes %r %s." % (timeout_in_minutes, self.name, "is still there" if is_delete_operation
                    else "has %d of %d nodes%s" % (self._ready(), wanted, self._trouble()))
                )  # fmt: skip
            time.sleep(_POLL_S)
        if show_output:
            lines = ["Succeeded", "AmlCompute wait for completion finished", ""]
            if not is_delete_operation:
                lines.append("Minimum number of nodes requested have been provisioned")
            sys.stdout.write("\n".join(lines) + "\n")

    def _has_nodes(self, wanted: int) -> bool:
        self.refresh_state()
        return self._ready() >= wanted

    def _ready(self) -> int:
        """Nodes that can be used, when it was last read."""
        counts = self.status.node_state_counts
        return counts.idle_node_count + counts.running_node_count

    def _trouble(self) -> str:
        return ": %s" % self._data["trouble"] if self._data.get("trouble") else ""

    def _is_gone(self) -> bool:
        try:
            self.refresh_state()
        except ComputeTargetException:
            return True
        return False

    def get(self) -> "AmlCompute":
        """The same target, read afresh."""
        return AmlCompute(self.workspace, self.name)

    def get_status(self) -> AmlComputeStatus:
        """The state now; ``serialize()`` makes a dictionary of it."""
        self.refresh_state()
        return status_from_wire(self._data)

    @property
    def status(self) -> AmlComputeStatus:
        """The state when it was last read."""
        return status_from_wire(self._data)

    @property
    def vm_size(self) -> "Optional[str]":
        """Size of its nodes, or None."""
        return self._spec.vm_size

    @property
    def vm_priority(self) -> str:
        """``dedicated`` or ``lowpriority``."""
        return self._spec.vm_priority

    @property
    def scale_settings(self) -> ScaleSettings:
        """How far it scales."""
        spec = self._spec
        return ScaleSettings(spec.min_nodes, spec.max_nodes, spec.idle_seconds_before_scaledown)

    def list_nodes(self) -> "List[Dict[str, Any]]":
        """Its nodes in v1's shape: ``nodeState`` is idle, running, preparing, leaving or unusable."""
        return [_node(node) for node in self.workspace._client.get("/v1/computes/%s/nodes" % quote(self.name))["nodes"]]

    def get_active_runs(
        self, type: "Optional[str]" = None, tags: Any = None, properties: Any = None, status: "Optional[str]" = None
    ) -> "Iterator[Run]":
        """Yield the runs on this cluster that are not over, newest first."""
        from windlass.experiment import Experiment
        from windlass.run import Run

        for record in self._active_records(type, tags, properties, status):
            yield Run._of(Experiment(self.workspace, record.experiment), record)

    def _active_records(
        self, type: "Optional[str]" = None, tags: Any = None, properties: Any = None, status: "Optional[str]" = None
    ) -> "Iterator[Any]":
        from windlass.run import list_records

        for one in [status] if status else _ACTIVE:
            for record in list_records(
                self.workspace._client, None, type, tags, properties, one, include_children=True
            ):
                if record.spec.target == self.name and not record.status.final:
                    yield record

    def update(
        self, min_nodes: "Optional[int]" = None, max_nodes: "Optional[int]" = None,
        idle_seconds_before_scaledown: "Optional[int]" = None,
    ) -> None:  # fmt: skip
        """Change how far it scales; what is None stays.

        Raises:
            ComputeTargetException: a number is wrong.
        """
        self.refresh_state()
        given = {"min_nodes": min_nodes, "max_nodes": max_nodes,
                 "idle_seconds_before_scaledown": idle_seconds_before_scaledown}  # fmt: skip
        wire = to_wire(self._spec)
        wire.update({key: value for key, value in given.items() if value is not None})
        check_scale(wire["min_nodes"], wire["max_nodes"], wire["idle_seconds_before_scaledown"])
        self._begin(self.workspace, self.workspace._client.put("/v1/computes/%s" % quote(self.name), wire))

    def serialize(self) -> "Dict[str, Any]":
        """What is known of it, under v1's keys."""
        return {
            "id": self.id, "name": self.name, "location": self.location, "tags": self.tags, "type": self.type,
            "identity": {"type": None, "userAssignedIdentities": None},
            "properties": {
                "description": self.description, "computeType": "AmlCompute", "computeLocation": self.location,
                "provisioningState": self.provisioning_state, "provisioningErrors": None, "resourceId": None,
                "properties": {
                    "vmSize": self.vm_size, "vmPriority": self.vm_priority,
                    "scaleSettings": self.scale_settings.serialize(),
                    "userAccountCredentials": {
                        "adminUserName": None, "adminUserPassword": None, "adminUserSshPublicKey": None,
                    },
                    "subnet": {"id": None}, "remoteLoginPortPublicAccess": self.remote_login_port_public_access,
                },
                "status": self.status.serialize(),
            },
        }  # fmt: skip

    @staticmethod
    def supported_vmsizes(workspace: "Workspace", location: "Optional[str]" = None) -> "List[Dict[str, Any]]":
        """The sizes ``vm_size`` may name: the workspace's own, then Azure's. Temporary disks are not known."""
        refuse_options("AmlCompute.supported_vmsizes", {"location": (location, None, _AZURE_ONLY)})
        return [
            {"name": size["name"], "vCPUs": size["vcpus"], "memoryGB": size["memory_gb"], "gpus": size["gpus"],
             "gpuName": size["gpu_name"], "maxResourceVolumeMB": None}
            for size in workspace._client.get("/v1/vm-sizes")["sizes"]
        ]  # fmt: skip

    @staticmethod
    def define_size(
        workspace: "Workspace", name: str, vcpus: int, memory_gb: float, gpus: int = 0, gpu: "Optional[str]" = None
    ) -> "Dict[str, Any]":  # fmt: skip
        """A size of your own for ``vm_size``; returns what is kept. Windlass's own, not v1's.

        On this machine a size says how many GPUs a run is handed; its cores and memory are shown.

        Args:
            workspace: Where it is kept.
            name: Not one that begins as Azure's do (``STANDARD_``, ``BASIC_``); kept in upper case.
            vcpus: Cores of a node.
            memory_gb: Memory of a node.
            gpus: GPUs of a node.
            gpu: What kind they are, such as ``RTX4090``.

        Raises:
            ComputeTargetException: a value is wrong, or a compute target has another size of that name.
        """
        asked = {"vcpus": vcpus, "memory_gb": memory_gb, "gpus": gpus, "gpu_name": gpu}
        try:
            return dict(workspace._client.put("/v1/vm-sizes/%s" % quote(str(name)), asked))
        except UserErrorException as e:
            raise ComputeTargetException(e.message, error_code=e.error_code) from e

    admin_username = OnlyDefault(None, _AZURE_ONLY)
    admin_user_password = OnlyDefault(None, _AZURE_ONLY)
    admin_user_ssh_key = OnlyDefault(None, _AZURE_ONLY)
    vnet_resourcegroup_name = OnlyDefault(None, _AZURE_ONLY)
    vnet_name = OnlyDefault(None, _AZURE_ONLY)
    subnet_name = OnlyDefault(None, _AZURE_ONLY)
    identity_type = OnlyDefault(None, _AZURE_ONLY)
    identity_id = OnlyDefault(None, _AZURE_ONLY)
    add_identity = AbsentMethod(_AZURE_ONLY)
    list_quotas = AbsentMethod(_AZURE_ONLY)
    list_usages = AbsentMethod(_AZURE_ONLY)
    remove_identity = AbsentMethod(_AZURE_ONLY)
    update_quotas = AbsentMethod(_AZURE_ONLY)


def check_name(name: Any) -> None:
    """Raise ComputeTargetException when ``name`` cannot be a compute target's."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise ComputeTargetException(
            "name=%r: a compute target's name has 1 to 63 letters, digits or '-', and begins with a letter." % (name,)
        )


def _is_shared(spec: "Mapping[str, Any]") -> bool:
    """Whether it is a cluster on the machines of an attached target."""
    return "machines_of" in (spec.get("options") or {})


def _is_azures(size: str) -> bool:
    return size.upper().startswith(_AZURE_SIZES)


def _wire_of(serialized: "Mapping[str, Any]") -> "Dict[str, Any]":
    """A ``GET /v1/computes/NAME`` answer out of what ``serialize`` made of one."""
    about, status = serialized["properties"], serialized["properties"]["status"]
    scale = ScaleSettings.deserialize(about["properties"]["scaleSettings"])
    counts = status["nodeStateCounts"]
    return {
        "spec": {
            "name": serialized["name"], "vm_size": about["properties"]["vmSize"], "tags": dict(serialized["tags"]),
            "vm_priority": about["properties"]["vmPriority"], "min_nodes": scale.minimum_node_count,
            "max_nodes": scale.maximum_node_count, "description": about["description"],
            "idle_seconds_before_scaledown": scale.idle_seconds_before_scaledown,
        },
        "created": unix_time(status["creationTime"]), "modified": unix_time(status["modifiedTime"]), "waiting": 0,
        "capacity": {
            "target": status["targetNodeCount"], "current": status["currentNodeCount"],
            "idle": counts["idleNodeCount"], "busy": counts["runningNodeCount"],
            "preparing": counts["preparingNodeCount"], "leaving": counts["leavingNodeCount"],
            "unusable": counts["unusableNodeCount"],
        },
    }  # fmt: skip


def check_scale(min_nodes: Any, max_nodes: Any, idle_s: Any) -> None:
    """Raise ComputeTargetException when a number is wrong; the message names it."""
    for name, value, least in (
        ("min_nodes", min_nodes, 0), ("max_nodes", max_nodes, 1), ("idle_seconds_before_scaledown", idle_s, 0)
    ):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ComputeTargetException("%s=%r must be a whole number of at least %d." % (name, value, least))
    if min_nodes > max_nodes:
        raise ComputeTargetException("min_nodes=%d is more than max_nodes=%d." % (min_nodes, max_nodes))


def _node(node: "Mapping[str, Any]") -> "Dict[str, Any]":
    """A node of the wire under v1's keys; one without an address is this machine."""
    return {"nodeId": node["name"], "port": None, "publicIpAddress": None,
            "privateIpAddress": node.get("address") or "127.0.0.1", "nodeState": node["status"],
            "runId": node.get("run_id")}  # fmt: skip
