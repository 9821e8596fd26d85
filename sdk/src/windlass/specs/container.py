"""Containers as they cross the wire: the image that an environment asks for, and how one job runs in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from windlass.specs._codec import known_fields


@dataclass(frozen=True)
class ContainerSpec:
    """The base image of an environment, by name or by Dockerfile; part of what its packages are locked for."""

    image: Optional[str] = None
    """Such as ``"microsoft/mmlspark:0.12"``; with ``registry`` relative to it."""
    dockerfile: Optional[str] = None
    """Text of a Dockerfile that makes the image; then ``image`` is None."""
    context: Optional[str] = None
    """Id of a snapshot with the files that the Dockerfile copies."""
    registry: Optional[str] = None
    """Address of the registry that has the image, such as ``"localhost:5000"``; None: the engine's default."""
    username: Optional[str] = None
    """At that registry. The password is with the server (``PUT /v1/registry-logins``), never here."""

    @classmethod
    def from_wire(cls, data: Optional[Mapping[str, Any]]) -> "Optional[ContainerSpec]":
        """The spec that ``to_wire`` made ``data`` from, or None; unknown keys are left out."""
        return cls(**known_fields(cls, data)) if data else None


@dataclass(frozen=True)
class ContainerOptions:
    """How one job's container runs; no part of the environment. Without a container only noted on the run."""

    shm_bytes: Optional[int] = None
    """Size of ``/dev/shm``; None: 2 GiB, v1's default."""
    memory_bytes: Optional[int] = None
    """Limit of memory, swap included; None: the machine's."""
    cpus: Optional[float] = None
    """Limit of processor time in cores; None: the machine's."""
    gpus: Optional[str] = None
    """``"all"`` or indices such as ``"0,1"``; None: those that the node was handed."""
    volumes: Tuple[str, ...] = ()
    """``/on/host:/in/container[:ro]``, the user's own mounts; without ``:ro`` they can be written."""
    ulimits: Tuple[str, ...] = ()
    """``name=soft[:hard]``."""
    host_ipc: bool = False
    """True: the machine's own shared memory, as ``--ipc=host``."""
    network: Optional[str] = None
    """None: the machine's network, which distributed jobs need; or the engine's ``"bridge"`` or ``"none"``."""

    @classmethod
    def from_wire(cls, data: Optional[Mapping[str, Any]]) -> "ContainerOptions":
        """The options that ``to_wire`` made ``data`` from; unknown keys are left out."""
        return cls(**known_fields(cls, data or {}))


@dataclass(frozen=True)
class ContainerLaunch:
    """The container of one node's part: the finished image and the engine that has it."""

    image: str
    """Its id, ``sha256:…``."""
    engine: str
    """Address of the engine's API on the node, such as ``unix:///var/run/docker.sock``."""
    options: ContainerOptions = field(default_factory=ContainerOptions)

    @classmethod
    def from_wire(cls, data: Optional[Mapping[str, Any]]) -> "Optional[ContainerLaunch]":
        """The launch that ``to_wire`` made ``data`` from, or None; unknown keys are left out."""
        if not data:
            return None
        values = known_fields(cls, data)
        values["options"] = ContainerOptions.from_wire(values.get("options"))
        return cls(**values)
