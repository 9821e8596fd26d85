"""Which interpreter a package list gets: newest first, wheels first, the first in which the whole list resolves.

A list that resolves in the newest interpreter, as most do, is resolved once. Only when it does not are older ones
tried; packages that have wheels nowhere are then allowed to be built, and in the last round all are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from windlassd.envs._frameworks import has_gpu, is_cuda
from windlassd.envs._index import IndexSettings
from windlassd.envs._process import memory_file
from windlassd.envs._requirements import Wanted, is_azureml, requirement_name
from windlassd.envs._uv import run_uv
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import Interpreter

# Names that packages in the wild depend on; what else begins with azureml- is found by resolving and then left out.
_AZUREML = (
    "azureml-core", "azureml-defaults", "azureml-sdk", "azureml-train", "azureml-train-core", "azureml-pipeline",
    "azureml-pipeline-core", "azureml-pipeline-steps", "azureml-telemetry", "azureml-dataprep", "azureml-interpret",
    "azureml-dataset-runtime", "azureml-mlflow", "azureml-widgets", "azureml-tensorboard",
    "azureml-train-restclients-hyperdrive", "azureml-model-management-sdk", "azureml-inference-server-http",
)  # fmt: skip
_MOST_ROUNDS = 8
_MOST_SOURCE_ROUNDS = 3
_MORE_PLACES = ("UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL")
"""Where builds for the CPU lie, if anywhere: PyPI alone has none."""
_MUCH_CUDA = 3
"""So many CUDA packages are gigabytes; fewer are a library that some package brings along."""


@dataclass(frozen=True)
class Resolved:
    """A package list to the last version, and how it came about."""

    python: Interpreter
    pins: Sequence[str]
    """With hashes, sorted."""
    left_out: Sequence[str]
    """Names of azureml packages that were left out."""
    notes: Sequence[str]


def resolve(want: Wanted, candidates: Sequence[Interpreter], index: IndexSettings, work: Work) -> Resolved:
    """The list in the first interpreter of ``candidates`` where all of it fits.

    Raises:
        EnvironmentFailed: it fits in none; says what was tried.
    """
    search = _Search(want, candidates, index, work)
    found = search.run()
    if has_gpu() or not _brings_cuda(found):
        return found
    return search.without_cuda(found)


@dataclass
class _Search:
    want: Wanted
    candidates: Sequence[Interpreter]
    index: IndexSettings
    work: Work
    failures: list[tuple[Interpreter, UvFailed]] = field(default_factory=list)

    def run(self) -> Resolved:
        source = set(self.want.source) | {n for n in map(_name_of_source, self.want.requirements) if n}
        if not any(map(_nameless_source, self.want.requirements)):
            for _ in range(_MOST_SOURCE_ROUNDS):
                before = len(self.failures)
                for python in self.candidates:
                    if found := self._try(python, source):
                        return found
                nowhere = set.intersection(*(set(f.unbuilt) for _, f in self.failures[before:])) - source
                if not nowhere:
                    break
                source |= nowhere
        if not self.failures or any(failure.unbuilt for _, failure in self.failures):
            for python in self.candidates:
                if found := self._try(python, None):
                    return found
        raise self._error()

    def without_cuda(self, found: Resolved) -> Resolved:
        """The same versions in a build for the CPU, if some interpreter has one; else ``found``, with a note."""
        failed = {python.path for python, _ in self.failures} | {found.python.path}
        for python in self.candidates if _has_local_builds(found, self.index) else ():
            other = None if python.path in failed else self._try(python, set(self.want.source))
            if other and not _brings_cuda(other) and _same_versions(found, other):
                why = f"it has builds without CUDA, which this machine has no GPU for; {found.python.version} has not."
                return Resolved(python, other.pins, other.left_out, (_chosen(python, why),))
        cuda = sum(is_cuda(requirement_name(pin)) for pin in found.pins)
        note = (
            f"{cuda} packages are CUDA libraries (gigabytes), and this machine has no GPU. For builds without them set "
            "UV_TORCH_BACKEND=cpu, or PIP_FIND_LINKS to a folder of them, where the server runs."
        )
        return Resolved(found.python, found.pins, found.left_out, (*found.notes, note))

    def _try(self, python: Interpreter, source: set[str] | None) -> Resolved | None:
        """The list in ``python``, built from source only where it is in ``source`` (None: all may be)."""
        try:
            pins, left_out = self._resolved(python, source)
        except UvFailed as failure:
            if failure.hopeless:
                raise
            self.failures.append((python, failure))
            self.work.log(f"Python {python.version}: {failure.reason}")
            return None
        self.work.log(f"Resolved {len(pins)} packages for Python {python.version}.")
        return Resolved(python, pins, left_out, (_chosen(python, self._why(python, pins, source)),))

    def _why(self, python: Interpreter, pins: Sequence[str], source: set[str] | None) -> str:
        """What made this the choice, where it was not the first try; empty else."""
        others = list(dict.fromkeys(item.version for item, _ in self.failures if item != python))
        built = sorted((source or set()) & {requirement_name(pin) for pin in pins})
        parts = [f"the list does not fit {', '.join(others)}"] if others else []
        parts += [f"built from source: {', '.join(built)}"] if built else []
        parts += ["what has no wheels is built from source"] if source is None and self.failures else []
        return "; ".join(parts) + "." if parts else ""

    def _resolved(self, python: Interpreter, source: set[str] | None) -> tuple[Sequence[str], Sequence[str]]:
        """(pinned requirements with hashes, names of azureml packages that were left out)."""
        excluded = set(_AZUREML)
        found: list[str] = []
        for _ in range(_MOST_ROUNDS):
            pins = self._compiled(python, source, excluded)
            more = sorted({requirement_name(pin) for pin in pins if is_azureml(pin)})
            if not more:
                return sorted(pins), found
            found += more
            excluded |= set(more)
        raise EnvironmentFailed(f"azureml packages keep coming in as dependencies: {', '.join(found)}.",
                                "Leave out the package that needs them.")  # fmt: skip

    def _compiled(self, python: Interpreter, source: set[str] | None, excluded: set[str]) -> Sequence[str]:
        want = self.want
        with (
            memory_file("\n".join((*want.options, *want.requirements)) + "\n") as packages,
            memory_file("\n".join(sorted(excluded)) + "\n") as excludes,
            memory_file("\n".join(want.build_constraints) + "\n") as constraints,
        ):
            argv = ["pip", "compile", packages.path, "--excludes", excludes.path, "--python", python.path]
            argv += ["--generate-hashes", "--no-header", "--no-annotate", *self.index.options]
            if source is not None:
                argv += ["--only-binary", ":all:"]
                argv += [part for name in sorted(source) for part in ("--no-binary", name)]
            argv += ["--build-constraints", constraints.path] if want.build_constraints else []
            out = run_uv(
                argv, self.index, self.work, asked=want.requirements, python_version=python.version,
                files=(packages, excludes, constraints), quiet=len(self.candidates) > 1,
            )  # fmt: skip
        return [" ".join(line.split()) for line in out.replace("\\\n", " ").splitlines() if line.strip()]

    def _error(self) -> EnvironmentFailed:
        """The reason of the newest interpreter in the last round, and in one sentence what else was tried."""
        newest = self.candidates[0]
        failure = [f for python, f in self.failures if python == newest][-1]
        if len(self.candidates) == 1:
            return failure
        versions = ", ".join(dict.fromkeys(python.version for python, _ in self.failures))
        return EnvironmentFailed(f"{failure.message}\nTried: Python {versions}; wheels first, then builds from source.")


def _chosen(python: Interpreter, why: str = "") -> str:
    return f"Python {python.version} ({python.path})" + (f": {why}" if why else ".")


def _brings_cuda(found: Resolved) -> bool:
    return sum(is_cuda(requirement_name(pin)) for pin in found.pins) >= _MUCH_CUDA


def _same_versions(found: Resolved, other: Resolved) -> bool:
    """Whether the builds of its own in ``other`` (``2.13.0+cpu``) are of the versions that were found first."""
    versions = dict(_pinned(found))
    local = [(name, version.partition("+")[0]) for name, version in _pinned(other) if "+" in version]
    return bool(local) and all(versions.get(name, "").partition("+")[0] == version for name, version in local)


def _pinned(found: Resolved) -> Iterator[tuple[str, str]]:
    for pin in found.pins:
        yield requirement_name(pin), re.split(r"[ ;]", pin.partition("==")[2])[0]


def _has_local_builds(found: Resolved, index: IndexSettings) -> bool:
    """Whether there may be other builds of what was found: PyPI has none, folders and other indexes can."""
    places = [place for name in _MORE_PLACES for place in re.split(r"[\s,]+", index.environment.get(name, "")) if place]
    if any(not os.path.isdir(place) for place in places):
        return True  # an address; what it has only resolving can tell
    files = [name.replace("_", "-").lower() for place in places for name in os.listdir(place)]
    wanted = tuple(f"{name}-{version.partition('+')[0]}+" for name, version in _pinned(found))
    return any(name.startswith(wanted) for name in files)


def _name_of_source(requirement: str) -> str:
    """The name of a requirement such as ``name @ git+https://…`` that only a build can satisfy."""
    name, at, address = requirement.partition("@")
    return requirement_name(name) if at and "://" in address and not _is_wheel(address) else ""


def _nameless_source(requirement: str) -> bool:
    """True for a bare address or path of something to build, of which uv alone learns the name."""
    return not requirement_name(requirement) and not _is_wheel(requirement)


def _is_wheel(address: str) -> bool:
    return address.strip().split(" ")[0].split("#")[0].endswith(".whl")


def option_lines(want: Wanted) -> Iterator[str]:
    """What a lock carries beside its pins: the request's index options and build constraints."""
    yield from want.options
    yield from (f"{BUILD_CONSTRAINT}{text}" for text in want.build_constraints)


BUILD_CONSTRAINT = "--build-constraint "
