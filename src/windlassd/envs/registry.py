"""Builders by name; a builder's module is loaded when it is first used."""

from __future__ import annotations

import functools
import importlib
import os

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._layout import containers_dir
from windlassd.envs._requirements import needs_channels
from windlassd.envs.base import Builder, EnvironmentFailed

_MODULES = {
    "venv": "windlassd.envs.venv",
    "conda": "windlassd.envs.conda",
    "container": "windlassd.envs.container",
    "image": "windlassd.envs.image",
    "current": "windlassd.envs.current",
}


def builder_for(spec: EnvironmentSpec, root: str) -> Builder:
    """The builder that makes ``spec``; ``root`` is the folder of the cache.

    Raises:
        EnvironmentFailed: it cannot do all of it; names each feature and the reason.
    """
    builder = create(_name(spec), root)
    if reasons := builder.unsupported(spec):
        said = "; ".join(f"{feature}: {reason}" for feature, reason in reasons.items())
        raise EnvironmentFailed(f"The environment cannot be made. {said.rstrip('.')}.")
    return builder


def _name(spec: EnvironmentSpec) -> str:
    if spec.container:
        return "image" if spec.user_managed else "container"
    if spec.user_managed:
        return "current"
    return "conda" if needs_channels(spec) else "venv"


def sweep(root: str) -> None:
    """Remove what killed builds left outside the cache's folder.

    Raises:
        EnvironmentFailed: it cannot be reached now.
    """
    if os.path.isdir(containers_dir(root)):
        importlib.import_module(_MODULES["container"]).create(os.path.join(root, "interpreters.json")).sweep()


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
