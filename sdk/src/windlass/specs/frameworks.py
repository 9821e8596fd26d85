"""The frameworks of v1's estimators: their releases, which Pythons have wheels of each, and what must come along.

Data measured on the package index in November 2026. A release newer than the table is left to the resolver; one that
is older than the table needs a Python that jobs cannot run on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Tuple

OLDEST_PYTHON = "3.7"


@dataclass(frozen=True)
class Framework:
    """One framework. Versions are ``major.minor``, oldest first."""

    name: str
    """v1's name of the estimator."""
    package: str
    pythons: Dict[str, Tuple[str, str]]
    """Version to the oldest and the newest Python that it runs on."""
    v1_default: str
    """The version that v1 took when none was asked for."""
    along: Tuple[Tuple[str, Optional[str]], ...] = ()
    """(requirement, version): what is installed with it, for versions before that one; None: for all."""
    source: bool = False
    """True: the index has no wheels of it, so it is built."""
    source_along: Tuple[Tuple[str, str], ...] = ()
    """(project, version): what versions before that one depend on and has no wheels either."""
    build_constraints: Tuple[str, ...] = ()
    module: Optional[str] = None
    """What scripts import, where it is not called like the package."""
    newest_python: Optional[str] = None
    """The newest Python that any version runs on, where the index would not tell."""


@dataclass(frozen=True)
class Chosen:
    """A framework in pip's terms."""

    requirement: str
    along: Tuple[str, ...]
    python: Optional[str]
    """Clauses such as ``>=3.7,<3.9``; None when any will do."""
    source: Tuple[str, ...]
    build_constraints: Tuple[str, ...]


def choose(framework: Framework, version: "Optional[str]", gpu: bool) -> Chosen:
    """What to install for ``version`` (None: the newest) of ``framework`` on a machine with or without GPUs."""
    known = framework.pythons.get(minor(version)) if version else None
    if known:
        python: "Optional[str]" = ">=%s,<%s" % (known[0], _next(known[1]))
    else:
        python = "<%s" % _next(framework.newest_python) if framework.newest_python else None
    along = [
        requirement for requirement, before in framework.along
        if before is None or (version is not None and numbers(version) < numbers(before))
    ]  # fmt: skip
    package = _tensorflow(version, gpu) if framework.package == "tensorflow" else framework.package
    return Chosen(
        requirement=package + _clause(version),
        along=tuple(along),
        python=python,
        source=tuple(_source(framework, version)),
        build_constraints=framework.build_constraints,
    )


def _source(framework: Framework, version: "Optional[str]") -> Iterator[str]:
    if framework.source:
        yield framework.package
    for project, before in framework.source_along:
        if version is not None and numbers(version) < numbers(before):
            yield project


def minor(version: str) -> str:
    """``1.13`` of ``1.13.2``."""
    return ".".join(version.split(".")[:2])


def numbers(version: str) -> "Tuple[int, ...]":
    """A version as numbers, for comparing."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _clause(version: "Optional[str]") -> str:
    if version is None:
        return ""
    return "==%s.*" % version if version.count(".") < 2 else "==%s" % version


def _next(python: str) -> str:
    major, _, number = python.partition(".")
    return "%s.%d" % (major, int(number) + 1)


def _tensorflow(version: "Optional[str]", gpu: bool) -> str:
    """The package of the build that the machine can use: their names changed over the years."""
    at = numbers(version) if version else None
    if gpu:
        if at and at < (2, 1):
            return "tensorflow-gpu"
        return "tensorflow" if at and at < (2, 14) else "tensorflow[and-cuda]"
    only_cpu = at is not None and (at < (1, 15) or (2, 0) <= at < (2, 1))
    return "tensorflow" if only_cpu else "tensorflow-cpu"


def _pythons(text: str) -> "Dict[str, Tuple[str, str]]":
    found = {}
    for line in text.strip().splitlines():
        pythons, _, versions = line.partition(":")
        oldest, _, newest = pythons.strip().partition("-")
        found.update(dict.fromkeys(versions.split(), (oldest, newest)))
    return found


FRAMEWORKS = {
    "PyTorch": Framework(
        name="PyTorch", package="torch", v1_default="1.4",
        along=(("numpy<2", "2.3"), ("numpy", None)),
        pythons=_pythons("""
            3.7-3.7: 1.0 1.1 1.2 1.3
            3.7-3.8: 1.4 1.5 1.6
            3.7-3.9: 1.7 1.8 1.9 1.10
            3.7-3.10: 1.11 1.12
            3.7-3.11: 1.13
            3.8-3.11: 2.0 2.1
            3.8-3.12: 2.2 2.3 2.4
            3.9-3.13: 2.5 2.6 2.7 2.8
            3.10-3.14: 2.9 2.10 2.11 2.12 2.13 2.14
            3.11-3.15: 2.15
        """),
    ),
    "TensorFlow": Framework(
        name="TensorFlow", package="tensorflow", v1_default="1.13",
        source_along=(("gast", "1.16"),),
        along=(("protobuf<3.21", "2.9"), ("numpy<1.24", "2.12"), ("h5py<3", "2.1"), ("gast<0.3", "1.15")),
        pythons=_pythons("""
            3.7-3.7: 1.13 1.14 1.15 2.0 2.1
            3.7-3.8: 2.2 2.3 2.4
            3.7-3.9: 2.5 2.6 2.7
            3.7-3.10: 2.8 2.9 2.10 2.11
            3.8-3.11: 2.12 2.13
            3.9-3.11: 2.14 2.15
            3.9-3.12: 2.16 2.17 2.18 2.19
            3.9-3.13: 2.20
            3.10-3.13: 2.21
        """),
    ),
    "Chainer": Framework(
        name="Chainer", package="chainer", v1_default="5.1.0", source=True, newest_python="3.11",
        along=(("numpy<1.24", "7.8"), ("numpy<2", None), ("pytest", "6.0"), ("setuptools<74", None), ("six", None),
               ("typing_extensions", None), ("protobuf<3.21", "7.8"), ("protobuf", None)),
        build_constraints=("setuptools<81",),
        pythons=_pythons("""
            3.7-3.7: 5.0 5.1 5.2 5.3 5.4
            3.7-3.8: 6.0 6.1 6.2 6.3 6.4 6.5 6.6 6.7 7.0 7.1 7.2 7.4 7.6 7.7
            3.7-3.11: 7.8
        """),
    ),
    "SKLearn": Framework(
        name="SKLearn", package="scikit-learn", module="sklearn", v1_default="0.20.3",
        along=(("joblib", None), ("numpy<1.24", "1.2"), ("numpy<2", "1.5")),
        pythons=_pythons("""
            3.7-3.7: 0.20 0.21
            3.7-3.8: 0.22 0.23
            3.7-3.9: 0.24
            3.7-3.10: 1.0
            3.8-3.11: 1.1 1.2
            3.8-3.12: 1.3
            3.9-3.12: 1.4
            3.9-3.13: 1.5 1.6
            3.10-3.14: 1.7
            3.11-3.14: 1.8
            3.11-3.15: 1.9
        """),
    ),
}  # fmt: skip
"""By v1's name of the estimator."""
