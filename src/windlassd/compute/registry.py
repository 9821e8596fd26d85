"""Engines by name, loaded when first asked for."""

from __future__ import annotations

import importlib
from typing import cast

from windlass.errors import ComputeTargetException, did_you_mean
from windlassd.compute.base import AgentLink, Engine

_ENGINES = {
    "local": ("windlassd.compute.local", "LocalEngine"),
    "ray": ("windlassd.compute.ray", "RayEngine"),
    "fake": ("windlassd.compute.fake", "FakeEngine"),
    "apart": ("windlassd.testing.apart", "ApartEngine"),
    "netns": ("windlassd.testing.netns_engine", "NetnsEngine"),
}


def load(name: str, link: AgentLink) -> Engine:
    """A new engine of that name.

    Raises:
        ComputeTargetException: there is none.
    """
    if name not in _ENGINES:
        known = sorted(_ENGINES)
        raise ComputeTargetException(
            f"There is no engine {name!r}.{did_you_mean(name, known)} Known engines: {', '.join(known)}."
        )
    module, cls = _ENGINES[name]
    return cast(Engine, getattr(importlib.import_module(module), cls)(link))
