"""What a framework of ``specs/frameworks.py`` adds to a request, and why a version of it cannot be had here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from windlass.specs.environment import EnvironmentSpec
from windlass.specs.frameworks import FRAMEWORKS, OLDEST_PYTHON, Chosen, Framework, choose, minor, numbers
from windlassd.envs.interpreters import Interpreter, fits

_DRIVER = "/proc/driver/nvidia/version"
_DEVICE = "/dev/nvidiactl"
_CUDA = ("nvidia-", "cuda-", "triton")


def has_gpu() -> bool:
    """True when this machine has an NVIDIA GPU that packages could use."""
    return os.path.exists(_DRIVER) or os.path.exists(_DEVICE)


def is_cuda(name: str) -> bool:
    """True for a package that is of no use without a GPU."""
    return name.startswith(_CUDA)


def chosen(spec: EnvironmentSpec) -> Chosen | None:
    """The framework that ``spec`` asks for, in pip's terms; None when it asks for none."""
    framework = FRAMEWORKS.get(spec.framework or "")
    return choose(framework, spec.framework_version, has_gpu()) if framework else None


def refused(spec: EnvironmentSpec, available: Callable[[], Sequence[Interpreter]]) -> str | None:
    """Why the framework of ``spec`` cannot be had in that version on this machine; None when it may be."""
    framework, version = FRAMEWORKS.get(spec.framework or ""), spec.framework_version
    if spec.framework and framework is None:
        return f"there is no framework {spec.framework!r}; there are {', '.join(FRAMEWORKS)}"
    if framework is None or version is None:
        return None
    known = available()
    if not numbers(version):
        return f"{version!r} is no version of {framework.name}. {_can_be_had(framework, known)}"
    oldest, newest = next(iter(framework.pythons)), max(framework.pythons, key=numbers)
    if numbers(version) < numbers(oldest):
        return (
            f"{framework.name} {version} needs a Python older than {OLDEST_PYTHON}, which jobs cannot run on. "
            f"{_can_be_had(framework, known)}"
        )
    pythons = framework.pythons.get(minor(version)) if "." in version else None
    if pythons is None:
        matches = any(v == version or v.startswith(version + ".") for v in framework.pythons)
        if matches or numbers(version) > numbers(newest):
            return None  # the resolver picks among these, or knows newer ones than the table
        return f"there is no {framework.name} {version}. {_can_be_had(framework, known)}"
    if not _runs(framework, minor(version), known):
        return (
            f"{framework.name} {version} runs on Python {_span(pythons)}, and this machine has none of those. "
            f"{_can_be_had(framework, known)} Or install such a Python (pyenv, uv)."
        )
    return None


def _can_be_had(framework: Framework, known: Sequence[Interpreter]) -> str:
    versions = [version for version in framework.pythons if _runs(framework, version, known)]
    return f"The versions that can be had: {', '.join(versions)}."


def _runs(framework: Framework, version: str, known: Sequence[Interpreter]) -> bool:
    clauses = choose(framework, version, False).python
    return clauses is None or any(fits(item.numbers, clauses) for item in known)


def _span(pythons: tuple[str, str]) -> str:
    return pythons[0] if pythons[0] == pythons[1] else f"{pythons[0]} to {pythons[1]}"
