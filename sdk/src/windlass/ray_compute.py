"""``RayCompute``: somebody's Ray cluster as a compute target. Windlass's own; v1 had none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from windlass._not_offered import AbsentMethod
from windlass._transport.client import quote
from windlass.compute import AmlCompute, ComputeTargetAttachConfiguration, check_scale
from windlass.errors import ComputeTargetException
from windlass.specs._codec import to_wire
from windlass.specs.cluster import ClusterSpec

if TYPE_CHECKING:
    from windlass.workspace import Workspace

ENGINE = "ray"
AS_MANY_AS_THERE_ARE = 1000
"""``max_nodes`` of a target that has all the machines that Ray has."""

__all__ = ["RayCompute", "RayComputeAttachConfiguration"]


class RayComputeAttachConfiguration(ComputeTargetAttachConfiguration):
    """Which Ray cluster a target is, and how much of it; see ``RayCompute.attach_configuration``."""

    def __init__(self, spec: ClusterSpec, token: "Optional[str]") -> None:
        super().__init__("Ray")
        self._spec = spec
        self._token = token

    def __repr__(self) -> str:
        return "RayComputeAttachConfiguration(address=%r)" % self._spec.options.get("address")

    def validate_configuration(self) -> None:
        """Raise ComputeTargetException when a value is wrong; the server knows the rest."""
        spec = self._spec
        address = spec.options.get("address")
        if not isinstance(address, str) or not address:
            raise ComputeTargetException(
                "address=%r must be HOST:PORT of the head of a Ray cluster, such as 'head.lab:6379'." % (address,)
            )
        check_scale(spec.min_nodes, spec.max_nodes, spec.idle_seconds_before_scaledown)

    def _attach(self, workspace: "Workspace", name: str) -> AmlCompute:
        path = "/v1/computes/%s" % quote(name)
        known = [entry["spec"] for entry in workspace._client.get("/v1/computes")["computes"]]
        if any(spec["name"] == name and spec["engine"] != ENGINE for spec in known):
            raise ComputeTargetException(
                "The compute target %r exists and is no Ray cluster. Choose another name, or delete it first." % name
            )
        if self._token is not None:
            workspace._client.put(path + "/token", {"token": self._token})
        wire = dict(to_wire(self._spec), name=name)
        return RayCompute._of(workspace, workspace._client.put(path, wire))


class RayCompute(AmlCompute):
    """A Ray cluster. Its nodes are shares of Ray's machines: what ``node_resources`` asks for.

    Raises:
        ComputeTargetException: the workspace has none of that name, or it is another kind.
    """

    type = "Ray"

    @staticmethod
    def attach_configuration(
        address: str, node_resources: "Optional[Mapping[str, float]]" = None, min_nodes: int = 0,
        max_nodes: "Optional[int]" = None, python: "Optional[str]" = None, agent_python: "Optional[str]" = None,
        auth_token: "Optional[str]" = None, token_file: "Optional[str]" = None,
        idle_seconds_before_scaledown: int = 1800, description: "Optional[str]" = None,
        tags: "Optional[Dict[str, str]]" = None,
    ) -> RayComputeAttachConfiguration:  # fmt: skip
        """Which Ray cluster to attach, and how much of it.

        Args:
            address: ``HOST:PORT`` of its head, as ``ray start --head`` shows it; the port is 6379 unless chosen.
            node_resources: What a node of a run gets, such as ``{"CPU": 8, "GPU": 1}``; None is one CPU. ``memory`` is
                in bytes; other names are Ray's custom resources.
            min_nodes: Nodes that Ray's autoscaler keeps when idle; without one it means nothing.
            max_nodes: Most nodes in use at once; None: as many as there are.
            python: Interpreter on the server's machine that has the cluster's Ray and Python; None: the server's own.
            agent_python: Interpreter on the nodes that has Windlass; None: the one that Ray runs in.
            auth_token: The token of a cluster that asks for one. It is kept in a protected file of the server.
            token_file: A file to read it from instead.
            idle_seconds_before_scaledown: For so long after a run Ray's autoscaler is asked to keep its nodes.
            description: Text for people.
            tags: Of the target.

        Raises:
            ComputeTargetException: a value is wrong.
        """
        if auth_token is not None and token_file is not None:
            raise ComputeTargetException("Give auth_token or token_file, not both.")
        options = {"address": address, "python": python, "agent_python": agent_python}
        spec = ClusterSpec(
            name="", engine=ENGINE, min_nodes=min_nodes,
            max_nodes=AS_MANY_AS_THERE_ARE if max_nodes is None else max_nodes,
            idle_seconds_before_scaledown=idle_seconds_before_scaledown, description=description,
            tags=dict(tags or {}), node_resources=_checked(node_resources),
            options={key: value for key, value in options.items() if value is not None},
        )  # fmt: skip
        made = RayComputeAttachConfiguration(spec, auth_token if token_file is None else read_token(token_file))
        made.validate_configuration()
        return made

    @property
    def location(self) -> str:
        """Where it is: the address of its head."""
        return self.address

    @property
    def address(self) -> str:
        """``HOST:PORT`` of its head."""
        return str(self._spec.options.get("address"))

    @property
    def node_resources(self) -> "Dict[str, float]":
        """What a node of a run gets."""
        return dict(self._spec.node_resources)

    @property
    def is_attached(self) -> bool:
        """v1's: True for a target made elsewhere."""
        return True

    def _begin(self, workspace: "Workspace", data: "Mapping[str, Any]") -> None:
        super()._begin(workspace, data)
        if self._spec.engine != ENGINE:
            raise ComputeTargetException(
                "The compute target %r is no Ray cluster; ComputeTarget(ws, %r) gets it." % (self.name, self.name)
            )

    def detach(self) -> None:
        """Forget the cluster, which itself goes on.

        Raises:
            ComputeTargetException: runs hold it or wait for it.
        """
        self.delete()

    def serialize(self) -> "Dict[str, Any]":
        """What is known of it, under v1's keys."""
        made = super().serialize()
        made["properties"]["computeType"] = self.type
        made["properties"]["properties"]["address"] = self.address
        made["properties"]["properties"]["nodeResources"] = self.node_resources
        return made

    provisioning_configuration = AbsentMethod(
        "A Ray cluster is attached: ComputeTarget.attach(ws, name, RayCompute.attach_configuration(address))."
    )


def read_token(path: str) -> str:
    """The token in a file, without the line's end.

    Raises:
        ComputeTargetException: it cannot be read, or holds none.
    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as f:
            token = f.read().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ComputeTargetException("The token file %s cannot be read: %s." % (path, e)) from e
    if not token or "\n" in token:
        raise ComputeTargetException("The token file %s must hold one line, the token." % path)
    return token


def _checked(resources: "Optional[Mapping[str, float]]") -> "Dict[str, float]":
    made = {}
    for name, amount in (resources or {}).items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
            raise ComputeTargetException("node_resources[%r]=%r must be a number of at least 0." % (name, amount))
        made[name] = float(amount)
    return made
