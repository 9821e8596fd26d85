"""v1's curated environments (``AzureML-…``) as presets: the packages that each name stood for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from windlass._warn import warn
from windlass.errors import UserErrorException, did_you_mean
from windlass.specs.frameworks import FRAMEWORKS, OLDEST_PYTHON, choose, numbers

if TYPE_CHECKING:
    from windlass.environment import Environment

_PREFIX = "AzureML-"
_BASE = "azureml-defaults"
_VERSIONED = re.compile(r"AzureML-(?P<kind>[A-Za-z]+(?:-[A-Za-z]+)?)-(?P<version>\d+(?:\.\d+)+)(?P<rest>(?:-.*)?)\Z")
_PYTHON = re.compile(r"-py(\d)(\d+)(?=-|\Z)")
_GPU = re.compile(r"-(gpu|cuda)", re.IGNORECASE)

_PLAIN: "Dict[str, Tuple[str, ...]]" = {
    "AzureML-Minimal": (),
    "AzureML-Tutorial": ("numpy", "pandas", "scikit-learn", "matplotlib", "joblib"),
    "AzureML-Dask-CPU": ("dask[complete]", "distributed", "pandas"),
    "AzureML-Dask-GPU": ("dask[complete]", "distributed", "pandas"),
}
_FRAMEWORKS: "Dict[str, Tuple[str, Tuple[str, ...]]]" = {
    "pytorch": ("PyTorch", ("torchvision",)),
    "tensorflow": ("TensorFlow", ()),
    "chainer": ("Chainer", ()),
    "sklearn": ("SKLearn", ("pandas",)),
    "scikit-learn": ("SKLearn", ("pandas",)),
}
"""Kind, as the name has it in lower case, to the framework and what comes beside it."""
_LIBRARIES: "Dict[str, Tuple[str, Tuple[str, ...]]]" = {
    "lightgbm": ("lightgbm", ("scikit-learn", "pandas")),
    "xgboost": ("xgboost", ("scikit-learn", "pandas")),
}
_VERSIONS = {("xgboost", "0.9"): "0.90"}
"""Versions that the index writes otherwise."""
_NOT_PLAIN = {
    "AutoML": "automated machine learning",
    "Hyperdrive-ForecastDNN": "automated machine learning",
    "PySpark": "Spark",
    "Designer": "the designer",
    "Triton": "serving",
    "VowpalWabbit": "a program that no package brings",
    "DeepSpeed": "an image of its own",
    "ACPT": "an image of its own",
}
"""How names go on that are no list of packages, to what they were for."""


def _names() -> "List[str]":
    sized = [
        "%s-%s" % (name, size)
        for name in (
            *("PyTorch-1.%d" % minor for minor in range(7)), "TensorFlow-1.13",
            *("TensorFlow-2.%d" % minor for minor in range(4)), "Chainer-5.1.0",
        )
        for size in ("CPU", "GPU")
    ]  # fmt: skip
    dated = (
        "sklearn-0.24-ubuntu18.04-py37-cpu", "sklearn-1.0-ubuntu20.04-py38-cpu", "lightgbm-3.2-ubuntu18.04-py37-cpu",
        "xgboost-0.9-ubuntu18.04-py37-cpu", "pytorch-1.7-ubuntu18.04-py37-cuda11-gpu",
        "pytorch-1.8-ubuntu18.04-py37-cuda11-gpu", "pytorch-1.9-ubuntu18.04-py37-cuda11-gpu",
        "pytorch-1.10-ubuntu18.04-py38-cuda11-gpu", "tensorflow-2.4-ubuntu18.04-py37-cuda11-gpu",
        "tensorflow-2.5-ubuntu20.04-py38-cuda11-gpu", "tensorflow-2.6-ubuntu20.04-py38-cuda11-gpu",
        "tensorflow-2.7-ubuntu20.04-py38-cuda11-gpu",
    )  # fmt: skip
    return [*_PLAIN, *(_PREFIX + name for name in ("Scikit-learn-0.20.3", *sized, *dated))]


NAMES: "Tuple[str, ...]" = tuple(_names())
"""Those that ``Environment.list`` shows; others of the same kinds are made from their names, too."""


def is_curated(name: Any) -> bool:
    """True for a name of v1's curated environments."""
    return isinstance(name, str) and name.startswith(_PREFIX)


def environment(name: str) -> "Environment":
    """The environment that a curated name stands for.

    Raises:
        UserErrorException: it was no plain list of packages, needs a Python that jobs cannot run on, or is none.
    """
    from windlass.conda_dependencies import CondaDependencies
    from windlass.environment import Environment

    packages, python = _contents(name)
    made = Environment(name)
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=CondaDependencies.merge_requirements([_BASE, *packages]),
        conda_packages=["python" + python] if python else [],
    )
    return made


def _contents(name: str) -> "Tuple[List[str], Optional[str]]":
    """(packages, Python in conda's syntax)."""
    if name in _PLAIN:
        return list(_PLAIN[name]), None
    match = _VERSIONED.match(name)
    kind = match.group("kind").lower() if match else ""
    if match and kind in _FRAMEWORKS:
        return _framework(name, kind, match.group("version"), match.group("rest"))
    if match and kind in _LIBRARIES:
        package, along = _LIBRARIES[kind]
        version = _VERSIONS.get((kind, match.group("version")), match.group("version"))
        pinned = "%s==%s%s" % (package, version, ".*" if version == match.group("version") else "")
        return [pinned, *along], _python_of(name, match.group("rest"))
    raise UserErrorException(_refusal(name))


def _framework(name: str, kind: str, version: str, rest: str) -> "Tuple[List[str], Optional[str]]":
    framework, along = FRAMEWORKS[_FRAMEWORKS[kind][0]], _FRAMEWORKS[kind][1]
    if numbers(version) < numbers(next(iter(framework.pythons))):
        raise UserErrorException(
            "%s: %s %s needs a Python older than %s, which jobs cannot run on. Take one of: %s."
            % (name, framework.name, version, OLDEST_PYTHON, ", ".join(_alike(framework.name)))
        )
    chosen = choose(framework, version, bool(_GPU.search(rest)))
    return [chosen.requirement, *along, *chosen.along], _python_of(name, rest) or chosen.python


def _python_of(name: str, rest: str) -> "Optional[str]":
    """The Python that a name has, as ``=3.8``."""
    match = _PYTHON.search(rest)
    if match is None:
        return None
    version = "%s.%s" % match.groups()
    if numbers(version) < numbers(OLDEST_PYTHON):
        warn("%s: jobs cannot run on Python %s; a newer one that its packages have is taken." % (name, version))
        return None
    return "=%s" % version


def _alike(framework: str) -> "List[str]":
    kinds = [kind for kind, (known, _) in _FRAMEWORKS.items() if known == framework]
    return [name for name in NAMES if name[len(_PREFIX) :].lower().startswith(tuple(kinds))]


def _refusal(name: str) -> str:
    reason = next((why for kind, why in _NOT_PLAIN.items() if name[len(_PREFIX) :].startswith(kind)), None)
    said = (
        "%r is one of Azure's curated environments, which stood for %s." % (name, reason)
        if reason
        else "%r is none of the curated environments that Windlass knows.%s" % (name, did_you_mean(name, NAMES))
    )
    return said + (
        " Name the packages that you need: env = Environment('my-env'); env.python.conda_dependencies = "
        "CondaDependencies.create(pip_packages=[...]). Environment.list(ws) shows those there are."
    )
