"""A cloud for Ray's own autoscaler: machines of ``netns.py`` that boot when Ray orders them, and go when it says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from windlassd.testing.netns import Machine
from windlassd.testing.ray_bed import RayBed

_FOLDER = "/tmp/cloud"
_HEAD = "the-head"
_CONFIG = "/tmp/autoscaler.json"
_LOOK_S = 0.1


class Cloud:
    """Plays the cloud of a bed in a thread. A context manager.

    Args:
        bed: A bed without workers and with a head that is not started yet; ``start`` starts it.
        most: How many nodes Ray may order.
    """

    def __init__(self, bed: RayBed, most: int = 2) -> None:
        self._bed = bed
        self._most = most
        self._over = threading.Event()
        self.boots = threading.Event()
        """Clear it, and ordered nodes do not boot for the time being."""
        self.boots.set()
        self.machines: dict[str, Machine] = {}
        """By Ray's name for them, those too that are gone."""
        self._thread = threading.Thread(target=self._play, name="cloud", daemon=True)

    def __enter__(self) -> Cloud:
        self._folder.mkdir()
        (self._folder / f"{_HEAD}.up").write_text(self._bed.head.address)
        self._bed.head.path(_CONFIG).write_text(json.dumps(self._config()))
        self._bed.start_head(f"--autoscaling-config={_CONFIG}", variables=_named(_HEAD, "head"))
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    def refuse(self, words: str | None) -> None:
        """Let orders fail with these words; None: no longer."""
        path = self._folder / "refuse"
        if words is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(words)

    @property
    def up(self) -> int:
        """How many of the machines run."""
        return sum(machine.up for machine in self.machines.values())

    @property
    def _folder(self) -> Path:
        return self._bed.head.path(_FOLDER)

    def _play(self) -> None:
        while not self._over.wait(_LOOK_S):
            for path in self._folder.glob("i-*.end"):
                if (machine := self.machines.get(path.stem)) is not None and machine.up:
                    machine.kill()
            if self.boots.is_set():
                for path in self._folder.glob("i-*.json"):
                    if path.stem not in self.machines:
                        self._boot(path.stem)

    def _boot(self, node: str) -> None:
        bed = self._bed
        machine = self.machines[node] = bed.network.start(f"ray{len(self.machines) + 1}")[0]
        bed.workers.append(machine)
        bed.start_worker(machine, variables=_named(node, "worker"))
        (self._folder / f"{node}.up").write_text(machine.address)

    def _config(self) -> Mapping[str, Any]:
        module = "windlassd.testing.ray_cloud_provider.Provider"
        return {
            "cluster_name": "cloud", "max_workers": self._most, "idle_timeout_minutes": 0.05,
            "upscaling_speed": 100.0, "head_node_type": "head", "auth": {}, "file_mounts": {},
            "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
            "initialization_commands": [], "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
            "head_start_ray_commands": [], "worker_start_ray_commands": [],
            "provider": {"type": "external", "module": module, "folder": _FOLDER, "head": _HEAD,
                         "disable_node_updaters": True, "disable_launch_config_check": True},
            "available_node_types": {
                "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "worker": {"resources": {"CPU": 4}, "node_config": {}, "min_workers": 0, "max_workers": self._most},
            },
        }  # fmt: skip


def _named(node: str, kind: str) -> Mapping[str, str]:
    """What tells Ray on a machine which of its nodes that is."""
    return {"RAY_CLOUD_INSTANCE_ID": node, "RAY_NODE_TYPE_NAME": kind}
