"""Builders by name; a builder's module is loaded when it is first used."""

from __future__ import annotations

import functools
import importlib
import os

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._layout import containers_dir
from windlassd.envs._requirements import needs_channels
from windlassd.envs.base import Builder, EnvironmentFailed
from windlassd.envs.target import Target

_MODULES = {
    "venv": "windlassd.envs.venv",
    "conda": "windlassd.envs.conda",
    "container": "windlassd.envs.container",
    "image": "windlassd.envs.image",
    "current": "windlassd.envs.current",
}
_TARGETED = ("venv", "conda")
"""Those that resolve for other machines; the others need to look at what is there."""
_TOLD = {
    "container": "the image is looked into by the container engine of the node",
    "image": "the image is looked into by the container engine of the node",
    "current": "its interpreter is the node's own",
}


def builder_for(spec: EnvironmentSpec, root: str, target: Target | None = None) -> Builder:
    """The builder that makes ``spec``.

    Args:
        spec: What is asked for.
        root: The folder of the cache.
        target: Where its locks are to be for; None: this machine.

    Raises:
        EnvironmentFailed: it cannot do all of it; names each feature and the reason.
    """
    builder = create(name_for(spec), root, target)
    if reasons := builder.unsupported(spec):
        said = "; ".join(f"{feature}: {reason}" for feature, reason in reasons.items())
        raise EnvironmentFailed(f"The environment cannot be made. {said.rstrip('.')}.")
    return builder


def left_to_nodes(spec: EnvironmentSpec, target: Target) -> str | None:
    """Why ``spec`` cannot be resolved here for ``target``, so that each node does; None when it can be.

    Raises:
        EnvironmentFailed: an entry cannot be read.
    """
    name = name_for(spec)
    if name not in _TARGETED:
        return _TOLD[name]
    known = target.uv_platform and (name != "conda" or target.subdir)
    return None if known else f"uv cannot choose packages for {target.platform} from elsewhere"


def name_for(spec: EnvironmentSpec) -> str:
    """Name of the builder that makes ``spec``.

    Raises:
        EnvironmentFailed: an entry cannot be read.
    """
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
def create(name: str, root: str, target: Target | None = None) -> Builder:
    """The builder of that name; ``target`` as with ``builder_for``, for those that resolve what they do not build.

    Raises:
        EnvironmentFailed: there is no such builder.
    """
    if name not in _MODULES:
        raise EnvironmentFailed(f"There is no environment builder {name!r}; there are {', '.join(sorted(_MODULES))}.")
    module = importlib.import_module(_MODULES[name])
    more = (target,) if target and name in _TARGETED else ()
    builder: Builder = module.create(os.path.join(root, "interpreters.json"), *more)
    return builder
