"""Builds without CUDA for a machine without a GPU: CUDA's libraries are gigabytes that would be of no use there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from windlassd.envs._compile import Compiler, Extra
from windlassd.envs._frameworks import has_gpu, is_cuda, they_have
from windlassd.envs._index import IndexSettings
from windlassd.envs._requirements import requirement_name
from windlassd.envs._resolved import Resolved, chosen
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.interpreters import Interpreter
from windlassd.envs.target import Target

_MORE_PLACES = ("UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL")
"""Where builds for the CPU lie, if anywhere: PyPI alone has none."""
_ONE_PLACE = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_OFFLINE", "UV_NO_INDEX", "UV_TORCH_BACKEND")
"""Whoever set one of these said where packages come from; no other index is asked then."""
_QUICKLY = {"UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "3"}
_ASKED = "PyTorch's own index of builds for CPUs could not be reached, or has none of this version. "
_MUCH_CUDA = 3
"""So many CUDA packages are gigabytes; fewer are a library that some package brings along."""


def without_cuda(found: Resolved, compiler: Compiler, untried: Sequence[Interpreter]) -> Resolved:
    """The same versions in builds for the CPU where this machine has no GPU and there are any; else ``found``.

    Args:
        found: What the list resolved to.
        compiler: Of the list.
        untried: Interpreters that the list may fit, too.
    """
    if _has_gpu(compiler.want.target) or not _brings_cuda(found):
        return found
    has = they_have(compiler.want.target)
    torch = dict(found.versions()).get("torch")
    if torch is None:
        return _with_note(found, has)  # nothing else comes in builds for CPUs under the same name
    for python in untried if _has_local_builds(found, compiler.index) else ():
        if compiler.alone(python, [f"torch=={torch.partition('+')[0]}+cpu"], set()):
            continue  # a short question: the whole list is resolved only where the answer can be yes
        other = _tried(compiler, replace(found, python=python), found.extra)
        if other and python != found.python and not _brings_cuda(other) and _same_versions(found, other):
            why = f"it has builds without CUDA, which {has} no GPU for; {found.python.version} has not."
            return replace(other, notes=(chosen(python, why), *found.notes[1:]))
    if not _left_open(compiler.index):
        return _with_note(found, has)
    return _from_pytorch(found, compiler, has) or _with_note(found, has, _ASKED)


def _has_gpu(target: Target | None) -> bool:
    return has_gpu() if target is None else target.gpus


def _from_pytorch(found: Resolved, compiler: Compiler, has: str) -> Resolved | None:
    """The build of PyTorch's own index; None when that cannot be reached or has none."""
    hurried = replace(compiler.index, environment={**_QUICKLY, **compiler.index.environment})
    other = _tried(replace(compiler, index=hurried), found, replace(found.extra, torch_backend="cpu"))
    if other is None or _brings_cuda(other) or not _same_versions(found, other):
        return None
    note = f"PyTorch comes in its build for CPUs, from PyTorch's own index: {has} no GPU."
    return replace(other, notes=(*found.notes, note))


def _left_open(index: IndexSettings) -> bool:
    """Whether the user said nothing on where packages come from."""
    return "--no-index" not in index.options and not any(index.environment.get(name) for name in _ONE_PLACE)


def _tried(compiler: Compiler, like: Resolved, extra: Extra) -> Resolved | None:
    try:
        pins, left_out = compiler.resolved(like.python, like.source, extra)
    except UvFailed:
        return None
    return replace(like, pins=pins, left_out=left_out, extra=extra)


def _with_note(found: Resolved, has: str, asked: str = "") -> Resolved:
    count = sum(is_cuda(requirement_name(pin)) for pin in found.pins)
    note = (
        f"{count} packages are CUDA libraries (gigabytes), and {has} no GPU. {asked}For builds without them "
        "set PIP_FIND_LINKS to a folder of them, or UV_TORCH_BACKEND=cpu to ask PyTorch's own index, where the server "
        "runs."
    )
    return replace(found, notes=(*found.notes, note))


def _brings_cuda(found: Resolved) -> bool:
    return sum(is_cuda(requirement_name(pin)) for pin in found.pins) >= _MUCH_CUDA


def _same_versions(found: Resolved, other: Resolved) -> bool:
    """Whether the builds of its own in ``other`` (``2.13.0+cpu``) are of the versions that were found first."""
    versions = dict(found.versions())
    local = [(name, version.partition("+")[0]) for name, version in other.versions() if "+" in version]
    return bool(local) and all(versions.get(name, "").partition("+")[0] == version for name, version in local)


def _has_local_builds(found: Resolved, index: IndexSettings) -> bool:
    """Whether there may be other builds of what was found: PyPI has none, folders and other indexes can."""
    places = [place for name in _MORE_PLACES for place in re.split(r"[\s,]+", index.environment.get(name, "")) if place]
    if any(not os.path.isdir(place) for place in places):
        return True  # an address; what it has only resolving can tell
    files = [name.replace("_", "-").lower() for place in places for name in os.listdir(place)]
    wanted = tuple(f"{name}-{version.partition('+')[0]}+" for name, version in found.versions())
    return any(name.startswith(wanted) for name in files)
