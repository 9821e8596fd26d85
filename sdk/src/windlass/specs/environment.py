"""What a job's Python environment is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from windlass.specs._codec import known_fields
from windlass.specs.container import ContainerSpec


@dataclass(frozen=True)
class EnvironmentSpec:
    """Packages and interpreter of a job. Empty means: a bare environment of the default Python version."""

    name: Optional[str] = None
    python_version: Optional[str] = None
    """Such as ``"3.9"`` or ``"3.9.18"``; None takes the default interpreter."""
    pip_packages: Tuple[str, ...] = ()
    """Requirements in pip's syntax, one each."""
    conda_packages: Tuple[str, ...] = ()
    """Conda match specifications, one each."""
    channels: Tuple[str, ...] = ()
    """Conda channels, names or addresses, the first wins."""
    user_managed: bool = False
    """True: take ``interpreter`` as it is and install nothing."""
    interpreter: Optional[str] = None
    """Absolute path of the interpreter of a user-managed environment; in a container a name such as ``python`` too."""
    framework: Optional[str] = None
    """A framework of ``specs/frameworks.py`` to install as well, in the build that suits the machine."""
    framework_version: Optional[str] = None
    """Such as ``"1.13"`` (any 1.13) or ``"1.13.2"``; None takes the newest that fits."""
    container: Optional[ContainerSpec] = None
    """The image that the environment is made in; None: no container."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "EnvironmentSpec":
        """The spec that ``to_wire`` made ``data`` from; unknown keys are left out."""
        values = known_fields(cls, data)
        values["container"] = ContainerSpec.from_wire(values.get("container"))
        return cls(**values)
