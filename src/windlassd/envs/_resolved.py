"""A package list to the last version, and how it came about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from windlassd.envs._compile import Extra
from windlassd.envs._requirements import requirement_name
from windlassd.envs.interpreters import Interpreter


@dataclass(frozen=True)
class Resolved:
    """The outcome for one interpreter."""

    python: Interpreter
    pins: Sequence[str]
    """With hashes, sorted."""
    left_out: Sequence[str]
    """Names of azureml packages that were left out."""
    notes: Sequence[str]
    """Sentences for the user."""
    source: set[str] | None = None
    """Projects that could be built from source; None: all."""
    extra: Extra = field(default_factory=Extra)

    @property
    def satisfied(self) -> Sequence[str]:
        """Sentences on what was left out."""
        return [f"{name}: a dependency that Windlass satisfies, not installed." for name in self.left_out]

    def versions(self) -> Iterator[tuple[str, str]]:
        """(name, version) of each pin."""
        for pin in self.pins:
            yield requirement_name(pin), re.split(r"[ ;]", pin.partition("==")[2])[0]


def chosen(python: Interpreter, why: str = "") -> str:
    """The sentence on the interpreter."""
    return f"Python {python.version} ({python.path or 'which uv downloads there'})" + (f": {why}" if why else ".")
