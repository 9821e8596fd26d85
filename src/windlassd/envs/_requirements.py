"""What an environment spec asks of PyPI: pip requirements, conda packages by PyPI's names, the Python version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from windlass.specs.environment import EnvironmentSpec
from windlass.specs.frameworks import Chosen
from windlassd.envs._frameworks import chosen
from windlassd.envs.base import EnvironmentFailed

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_CONDA = re.compile(r"(?:[\w./:-]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(.*)\Z")
_VERSION = re.compile(r"(==|>=|<=|!=|~=|=|>|<)?\s*(\d[\w.!+-]*)(\*|\.\*)?\Z")
_CREDENTIALS = re.compile(r"://[^/\s@:]*:[^/\s@]*@|https?://[^/\s@]+@")
_OPTIONS = {"-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url",
            "-f": "--find-links", "--find-links": "--find-links", "--no-index": "--no-index"}  # fmt: skip

# Conda's name → PyPI's, where they differ and the contents are the same for a job.
_PYPI_NAMES = {
    "pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch", "torchvision-cpu": "torchvision",
    "matplotlib-base": "matplotlib", "pytables": "tables", "msgpack-python": "msgpack", "dask-core": "dask",
    "ruamel_yaml": "ruamel.yaml", "py-xgboost": "xgboost", "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless", "python-graphviz": "graphviz", "tensorflow-base": "tensorflow",
    "tensorflow-mkl": "tensorflow", "pyarrow-core": "pyarrow", "lightgbm-cpu": "lightgbm", "brotlipy": "brotli",
    "importlib_metadata": "importlib-metadata", "typing_extensions": "typing-extensions",
    "sqlalchemy-base": "sqlalchemy", "seaborn-base": "seaborn",
}  # fmt: skip
_NATIVE = "is a native library or program that PyPI does not have"
_OWN_CUDA = "comes with PyPI's framework wheels, in the version they need, so leave it out"
_CONDA_ONLY = {
    **dict.fromkeys(("cudatoolkit", "cudnn", "nccl", "pytorch-cuda", "cuda-toolkit"), _OWN_CUDA),
    **dict.fromkeys((
        "openmpi", "mpich", "openssl", "libgcc", "libgcc-ng", "libstdcxx-ng", "gcc", "gxx", "gcc_linux-64",
        "gxx_linux-64", "compilers", "make", "ffmpeg", "libpng", "libjpeg-turbo", "graphviz", "r-base", "openjdk",
        "openblas", "libopenblas", "blas", "hdf5", "gdal", "boost", "zlib", "bzip2", "xz", "sqlite", "curl", "git",
        "conda", "anaconda", "nomkl", "readline", "tk",
    ), _NATIVE),
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A spec in PyPI's terms."""

    python: str | None
    """Version clauses, such as ``3.9`` or ``>=3.8,<3.10``."""
    requirements: tuple[str, ...]
    options: tuple[str, ...]
    """Index options among the pip packages, in their long form."""
    notes: tuple[str, ...]
    source: tuple[str, ...] = ()
    """Projects that are known to have no wheels."""
    build_constraints: tuple[str, ...] = ()
    """Requirements on what packages are built with."""


def wanted(spec: EnvironmentSpec) -> Wanted:
    """What ``spec`` asks for.

    Raises:
        EnvironmentFailed: an entry cannot be had from PyPI, cannot be read, or carries credentials.
    """
    pythons = [spec.python_version] if spec.python_version else []
    requirements: list[str] = []
    options: list[str] = []
    notes: list[str] = []
    for entry in (text.strip() for text in spec.conda_packages):
        name, clauses = _conda_parts(entry)
        if name == "python":
            pythons += [clauses] if clauses else []
        elif name in _CONDA_ONLY or name.startswith("r-"):
            raise EnvironmentFailed(
                f"conda_packages: {entry!r} cannot come from PyPI: {name} {_CONDA_ONLY.get(name, _NATIVE)}.",
                "Windlass takes conda packages from PyPI; install native ones on the machine.",
            )
        else:
            requirements.append(_PYPI_NAMES.get(name, name) + clauses)
    for entry in (text.strip() for text in spec.pip_packages):
        _refuse_credentials(entry)
        if entry.startswith("-"):
            options.append(_option(entry))
        elif entry and not entry.startswith("#"):
            requirements.append(entry)
    for requirement in [text for text in requirements if is_azureml(text)]:
        requirements.remove(requirement)
        notes.append(f"{requirement}: satisfied by Windlass, not installed.")
    framework = chosen(spec)
    if framework:
        pythons += [framework.python] if framework.python else []
        requirements += [framework.requirement, *_along(framework, requirements)]
    return Wanted(
        python=",".join(dict.fromkeys(pythons)) or None,
        requirements=tuple(dict.fromkeys(requirements)),
        options=tuple(options),
        notes=tuple(dict.fromkeys(notes)),
        source=framework.source if framework else (),
        build_constraints=framework.build_constraints if framework else (),
    )


def requirement_name(requirement: str) -> str:
    """The normalized name that a requirement begins with; empty for a bare path or URL."""
    match = _NAME.match(requirement)
    if not match or re.match(r"[\w+.-]*://|[^\s@\[;=<>!~]*/", requirement):
        return ""
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def is_azureml(requirement: str) -> bool:
    """True for what Windlass stands in for."""
    name = requirement_name(requirement)
    return name == "azureml" or name.startswith("azureml-")


def _along(framework: Chosen, requirements: list[str]) -> Iterator[str]:
    """What comes with the framework, but for projects of which the user asked a version himself."""
    own = {requirement_name(text) for text in requirements if re.search(r"[=<>~]|://", text)}
    return (text for text in framework.along if requirement_name(text) not in own)


def _conda_parts(entry: str) -> tuple[str, str]:
    """Name and pip-style version clauses of a conda match specification."""
    match = _CONDA.match(entry)
    if not match or "[" in entry or "|" in entry:
        raise EnvironmentFailed(
            f"conda_packages: {entry!r} cannot be read.", "Write it like 'scikit-learn', 'scikit-learn=0.24' or "
            "'scikit-learn>=1.0,<2'."
        )  # fmt: skip
    name, version = match.group(1).lower(), match.group(2).strip()
    return name, ",".join(_clauses(entry, version))


def _clauses(entry: str, version: str) -> Iterator[str]:
    version = version.split()[0] if version.count(" ") and not re.match(r"[<>=!~]+\s", version) else version
    version = (
        re.sub(r"\A(=?=?[^=<>!~]+)=[^=]*\Z", r"\1", version) if version.count("=") > 1 else version
    )  # build string
    for clause in (part.strip() for part in version.split(",") if part.strip() not in ("", "*")):
        match = _VERSION.match(clause)
        if not match:
            raise EnvironmentFailed(
                f"conda_packages: the version {version!r} of {entry!r} cannot be read.",
                "Write it like '=0.24', '==0.24.2' or '>=1.0,<2'.",
            )
        operator, number, star = match.groups()
        if operator in (None, "=") or star:
            # Conda's single '=' means "begins with"; so does a bare number.
            yield f"{'!=' if operator == '!=' else '=='}{number.rstrip('.')}.*"
        else:
            yield operator + number


def _option(entry: str) -> str:
    name, _, value = entry.replace("=", " ", 1).partition(" ")
    if name not in _OPTIONS or (name == "--no-index") == bool(value.strip()):
        raise EnvironmentFailed(
            f"pip_packages: the option {entry!r} is not taken.",
            f"Allowed are {', '.join(sorted(set(_OPTIONS.values())))}; list the packages of a file one by one.",
        )
    return f"{_OPTIONS[name]} {value.strip()}".strip()


def _refuse_credentials(entry: str) -> None:
    if _CREDENTIALS.search(entry):
        raise EnvironmentFailed(
            f"pip_packages: {_CREDENTIALS.sub('://****@', entry)!r} holds credentials, which would be written into the "
            "run's record.",
            "Put them into ~/.netrc or into PIP_INDEX_URL of the server's environment, and leave them out here.",
        )
