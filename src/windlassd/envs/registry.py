"""Builders by name; a builder's module is loaded when it is first used."""

from __future__ import annotations

import functools
import importlib
import os

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import Builder, EnvironmentFailed

_MODULES = {
    "venv": "windlassd.envs.venv",
    "current": "windlassd.envs.current",
}


def builder_for(spec: EnvironmentSpec, root: str) -> Builder:
    """The builder that makes ``spec``; ``root`` is the folder of the cache.

    Raises:
        EnvironmentFailed: it cannot do all of it; names each feature and the reason.
    """
    builder = create("current" if spec.user_managed else "venv", root)
    if reasons := builder.unsupported(spec):
        said = "; ".join(f"{feature}: {reason}" for feature, reason in reasons.items())
        raise EnvironmentFailed(f"The builder {builder.name!r} cannot make this environment. {said}")
    return builder


@functools.lru_cache(maxsize=32)
def create(name: str, root: str) -> Builder:
    """The builder of that name.

    Raises:
        EnvironmentFailed: there is no such builder.
    """
    if name not in _MODULES:
        raise EnvironmentFailed(f"There is no environment builder {name!r}; there are {', '.join(sorted(_MODULES))}.")
    module = importlib.import_module(_MODULES[name])
    builder: Builder = module.create(os.path.join(root, "interpreters.json"))
    return builder
