"""Copies of ``windlass`` and ``azureml`` for jobs: each in a folder that its content names.

Beside them stands metadata of our own for the distributions that they stand in for, so that a package that asks for
``azureml-core`` by its metadata (``pkg_resources.require``, ``importlib.metadata.version``, ``pip check``) finds it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence

PACKAGES = ("windlass", "azureml")
OFFERED = (
    "azureml-core", "azureml-defaults", "azureml-sdk", "azureml-telemetry", "azureml-train", "azureml-train-core",
)  # fmt: skip
"""Distributions of v1 whose modules are ours."""
_METADATA = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
Summary: The API of this package as Windlass offers it; Microsoft's own is not installed.
"""
_INFO = ".dist-info"
_VERSION = re.compile(rb'^VERSION = "([^"]+)"$', re.MULTILINE)
_DIGITS = 16
Files = Sequence[tuple[str, bytes]]


def sdk_copy(root: str) -> str:
    """A whole copy of this installation's SDK below ``root``; made when there is none, or when it is damaged."""
    files = installed()
    target = os.path.join(root, name_of(files))
    if not is_intact(target):
        if os.path.isdir(target):
            _make_way(target)
        _publish(files, target)
    return target


def installed() -> Files:
    """``(relative path, content)`` of the SDK's files beside this package."""
    files = _read((name, _package(name)) for name in PACKAGES)
    return [*files, *_metadata(dict(files).get(os.path.join("windlass", "__init__.py"), b""))]


def is_intact(folder: str) -> bool:
    """True when the copy holds what its name says."""
    try:
        infos = sorted(name for name in os.listdir(folder) if name.endswith(_INFO))
        files = _read((name, os.path.join(folder, name)) for name in (*PACKAGES, *infos))
        return name_of(files) == os.path.basename(folder)
    except OSError:  # changed this moment, or closed to us
        return False


def name_of(files: Files) -> str:
    """The name of a copy of these files."""
    digest = hashlib.sha256()
    for relative, content in files:
        digest.update(f"{relative}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:_DIGITS]


def is_name(name: str) -> bool:
    """True for what could name a copy; others in the folder are being made, or were left half-made."""
    return len(name) == _DIGITS and all(digit in "0123456789abcdef" for digit in name)


def _make_way(target: str) -> None:
    aside = f"{target}.{os.getpid()}.damaged"
    os.rename(target, aside)
    shutil.rmtree(aside, ignore_errors=True)


def _publish(files: Files, target: str) -> None:
    beside = f"{target}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)  # of a process that had our number and was killed
    try:
        for relative, content in files:
            path = os.path.join(beside, relative)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(content)
    except OSError:  # on a full disk a part of it helps nobody
        shutil.rmtree(beside, ignore_errors=True)
        raise
    try:
        os.rename(beside, target)
    except OSError:  # another agent was quicker
        shutil.rmtree(beside)
        if not os.path.isdir(target):
            raise


def _read(roots: Iterable[tuple[str, str]]) -> Files:
    files = []
    for name, root in roots:
        for path in sorted(_python_files(root)):
            with open(path, "rb") as f:
                files.append((os.path.join(name, os.path.relpath(path, root)), f.read()))
    return files


def _metadata(source: bytes) -> Iterator[tuple[str, bytes]]:
    """Of the version that the SDK's ``source`` says to offer."""
    said = _VERSION.search(source)
    for name in sorted(OFFERED) if said else ():
        assert said is not None
        version = said.group(1).decode()
        folder = f"{name.replace('-', '_')}-{version}{_INFO}"
        yield os.path.join(folder, "INSTALLER"), b"windlass\n"
        yield os.path.join(folder, "METADATA"), _METADATA.format(name=name, version=version).encode()


def _package(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed beside windlassd"
    return os.path.dirname(spec.origin)


def _python_files(root: str) -> list[str]:
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if n != "__pycache__"]
        found += [os.path.join(folder, f) for f in files if not f.endswith((".pyc", ".pyo"))]
    return found
