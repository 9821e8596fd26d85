"""What a framework of ``specs/frameworks.py`` adds to a request, and why a version of it cannot be had here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from windlass.specs.environment import EnvironmentSpec
from windlass.specs.frameworks import FRAMEWORKS, OLDEST_PYTHON, Chosen, Framework, choose, minor, numbers
from windlassd.envs.interpreters import fits
from windlassd.envs.target import Target

_DRIVER = "/proc/driver/nvidia/version"
_DEVICE = "/dev/nvidiactl"
_CUDA = ("nvidia-", "cuda-", "triton")
_BUILDS = {"tensorflow": ("tensorflow-gpu", "tensorflow-cpu", "intel-tensorflow")}
"""Packages that are the same framework under another name."""
_PINNED = re.compile(r"([\w.-]+)(?:\[[^]]*\])?\s*==\s*(\d+(?:\.\d+)*)(?:\.\*)?\s*(?:;|#|\Z)")


class Versioned(Protocol):
    """Something that has the version of a Python."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers."""
        ...


def has_gpu() -> bool:
    """True when this machine has an NVIDIA GPU that packages could use."""
    return os.path.exists(_DRIVER) or os.path.exists(_DEVICE)


def gpu_at(target: Target | None) -> bool:
    """The same of ``target``; None: of this machine."""
    return has_gpu() if target is None else target.gpus


def is_cuda(name: str) -> bool:
    """True for a package that is of no use without a GPU."""
    return name.startswith(_CUDA)


def chosen(spec: EnvironmentSpec, target: Target | None = None) -> Chosen | None:
    """The framework that ``spec`` asks for, in pip's terms; None when it asks for none.

    Args:
        spec: What is asked for.
        target: Where it will run; None: on this machine.
    """
    framework = FRAMEWORKS.get(spec.framework or "")
    if framework is None:
        return None
    own = _own(framework, spec.pip_packages) if spec.framework_version is None else None
    if own is None:
        return choose(framework, spec.framework_version, gpu_at(target))
    return replace(choose(framework, own[1], gpu_at(target)), requirement=own[0])


def _own(framework: Framework, packages: Sequence[str]) -> tuple[str, str] | None:
    """The entry with which the list itself pins the framework, and its version."""
    for entry in packages:
        match = _PINNED.match(entry.strip())
        name = re.sub(r"[-_.]+", "-", match.group(1)).lower() if match else ""
        if match and (name == framework.package or name in _BUILDS.get(framework.package, ())):
            return entry.strip(), match.group(2)
    return None


def framework_notes(
    spec: EnvironmentSpec, requirements: Sequence[str], pins: Sequence[str], target: Target | None = None
) -> Iterator[str]:
    """Sentences on which version of its framework a run got, and why.

    Args:
        spec: What was asked for.
        requirements: That, with what the framework adds.
        pins: What was found.
        target: Where it will run; None: on this machine.
    """
    framework = chosen(spec, target)
    if framework is None:
        return
    package = re.split(r"[\[=<>]", framework.requirement)[0]
    version = next((pin[len(package) + 2 :].split(" ")[0] for pin in pins if pin.startswith(f"{package}==")), None)
    if version is None:
        return
    asked = spec.framework_version
    if framework.requirement in spec.pip_packages:
        why = "the version that the list names"
    elif asked is None:
        why = "the newest that fits, as no framework_version was asked for"
    else:
        why = "as asked for" if version.partition("+")[0] == asked else f"the newest {asked} that fits"
    pythons = FRAMEWORKS[spec.framework or ""].pythons.get(minor(version))
    if pythons and (asked or framework.requirement in spec.pip_packages):
        why += f"; it runs on Python {_span(pythons)}"
    bare = not gpu_at(target) and package in ("tensorflow", "tensorflow-cpu")
    build = f" for CPUs: {they_have(target)} no GPU" if bare else ""
    yield f"{spec.framework} {version} ({package}{build}): {why}."
    if along := [text for text in framework.along if text in requirements and text not in spec.pip_packages]:
        yield f"For {spec.framework} the list also has {', '.join(along)}; a version of your own wins."


def they_have(target: Target | None) -> str:
    """How a sentence on what is there begins."""
    return "this machine has" if target is None else "the nodes have"


def refused(
    spec: EnvironmentSpec, available: Callable[[], Iterable[Versioned]], target: Target | None = None
) -> str | None:
    """Why the framework of ``spec`` cannot be had in that version; None when it may be.

    Args:
        spec: What is asked for.
        available: The Pythons that can be had; those that cost little to find first.
        target: Where it will run; None: on this machine.
    """
    framework, version = FRAMEWORKS.get(spec.framework or ""), spec.framework_version
    if spec.framework and framework is None:
        return f"there is no framework {spec.framework!r}; there are {', '.join(FRAMEWORKS)}"
    if framework is None or version is None:
        return None
    if not numbers(version):
        return f"{version!r} is no version of {framework.name}. {_can_be_had(framework, available)}"
    oldest, newest = next(iter(framework.pythons)), max(framework.pythons, key=numbers)
    if numbers(version) < numbers(oldest):
        return (
            f"{framework.name} {version} needs a Python older than {OLDEST_PYTHON}, which jobs cannot run on. "
            f"{_can_be_had(framework, available)}"
        )
    pythons = framework.pythons.get(minor(version)) if "." in version else None
    if pythons is None:
        matches = any(v == version or v.startswith(version + ".") for v in framework.pythons)
        if matches or numbers(version) > numbers(newest):
            return None  # the resolver picks among these, or knows newer ones than the table
        return f"there is no {framework.name} {version}. {_can_be_had(framework, available)}"
    if not _runs(framework, minor(version), available):
        return (
            f"{framework.name} {version} runs on Python {_span(pythons)}, and {they_have(target)} none of those, nor "
            f"can uv download one. {_can_be_had(framework, available)} Or install such a Python (pyenv, the system's "
            "packages)."
        )
    return None


def versions_instead(spec: EnvironmentSpec, message: str, available: Callable[[], Iterable[Versioned]]) -> str | None:
    """The versions of the framework that can be had, when ``message`` says that there is none as asked for."""
    framework, asked = FRAMEWORKS.get(spec.framework or ""), chosen(spec)
    if framework is None or asked is None or spec.framework_version is None:
        return None
    package = re.split(r"[\[=<>]", asked.requirement)[0]
    return _can_be_had(framework, available) if f"No version of '{package}" in message else None


def _can_be_had(framework: Framework, available: Callable[[], Iterable[Versioned]]) -> str:
    known = list(available())
    versions = [version for version in framework.pythons if _runs(framework, version, lambda: known)]
    return f"The versions that can be had: {', '.join(versions)}."


def _runs(framework: Framework, version: str, available: Callable[[], Iterable[Versioned]]) -> bool:
    clauses = choose(framework, version, False).python
    return clauses is None or any(fits(item.numbers, clauses) for item in available())


def _span(pythons: tuple[str, str]) -> str:
    return pythons[0] if pythons[0] == pythons[1] else f"{pythons[0]} to {pythons[1]}"
