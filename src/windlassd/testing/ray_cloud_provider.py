"""A provider of nodes for Ray's autoscaler that asks by files; loaded by Ray itself, on the head's machine.

For each node there is ``ID.json`` (its tags) in the folder; whoever plays the cloud (``ray_cloud.py``) writes ``ID.up``
(its address) when it has booted, and takes it down when it finds ``ID.end``. A file ``refuse`` makes orders fail.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider


class Provider(NodeProvider):
    """What Ray calls."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._folder = Path(provider_config["folder"])
        tags = {"ray-node-type": "head", "ray-user-node-type": "head", "ray-node-status": "up-to-date"}
        self._write(provider_config["head"], tags)

    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        """Nodes that were ordered and not given back, and have these tags."""
        found = sorted(path.stem for path in self._folder.glob("*.json"))
        return [node for node in found if tag_filters.items() <= self.node_tags(node).items()]

    def is_running(self, node_id: str) -> bool:
        """Whether it has booted."""
        return (self._folder / f"{node_id}.up").exists()

    def is_terminated(self, node_id: str) -> bool:
        """Whether it was given back."""
        return not (self._folder / f"{node_id}.json").exists()

    def node_tags(self, node_id: str) -> dict[str, str]:
        """What Ray noted of it."""
        try:
            tags: dict[str, str] = json.loads((self._folder / f"{node_id}.json").read_text())
        except FileNotFoundError:
            return {}
        return tags

    def external_ip(self, node_id: str) -> str | None:
        """Its address, once it has one."""
        return self.internal_ip(node_id)

    def internal_ip(self, node_id: str) -> str | None:
        """Its address, once it has one."""
        path = self._folder / f"{node_id}.up"
        return path.read_text() if path.exists() else None

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        """Order nodes."""
        refusal = self._folder / "refuse"
        if refusal.exists():
            raise NodeLaunchException("Refused", refusal.read_text(), None)
        for _ in range(count):
            self._write(f"i-{secrets.token_hex(6)}", {**tags, "ray-node-status": "up-to-date"})

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int, resources: object, labels: object
    ) -> None:
        """Order nodes."""
        self.create_node(node_config, tags, count)

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        """Note more of a node."""
        if not self.is_terminated(node_id):
            self._write(node_id, {**self.node_tags(node_id), **tags})

    def terminate_node(self, node_id: str) -> None:
        """Give a node back."""
        (self._folder / f"{node_id}.end").touch()
        (self._folder / f"{node_id}.json").unlink(missing_ok=True)

    def _write(self, node_id: str, tags: Mapping[str, str]) -> None:
        beside = self._folder / f"{node_id}.new"
        beside.write_text(json.dumps(tags))
        beside.replace(self._folder / f"{node_id}.json")
