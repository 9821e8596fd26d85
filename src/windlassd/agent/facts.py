"""``python -m windlassd.agent --facts``: what a machine is, as JSON, for an engine that asks its nodes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from typing import Any

import windlassd
from windlass import settings
from windlass._transport.places import private_dir
from windlass.specs.launch import PROTOCOL
from windlassd.compute import _gpus
from windlassd.envs.interpreters import Interpreters
from windlassd.envs.target import platform_name


def main() -> int:
    """Print them on one line."""
    sys.stdout.write(json.dumps(facts()) + "\n")
    return 0


def facts() -> Mapping[str, Any]:
    """``platform`` as a lock has it, ``pythons`` (version → path), ``gpus``, ``cpus``, memory, free disk, versions."""
    home = settings.home()
    environments = os.path.join(private_dir(home), "environments")
    os.makedirs(environments, mode=0o700, exist_ok=True)
    found = Interpreters(os.path.join(environments, "interpreters.json")).available()
    gpus = list(_gpus.installed())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "platform": platform_name(),
        "pythons": {item.version: item.path for item in reversed(found)},  # of one version the first that is offered
        "gpus": bool(gpus),
        "gpu_indices": gpus,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "free_disk_bytes": shutil.disk_usage(home).free,
        "home": home,
        "host": socket.gethostname(),
        "version": windlassd.__version__,
        "protocol": PROTOCOL,
    }
