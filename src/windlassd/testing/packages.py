"""Packages made in memory: wheels, and source packages whose build does what a test wants. No build tool is needed."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence

_BACKEND = """
import base64, os
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {before}
    with open(os.path.join(wheel_directory, {file_name!r}), "wb") as f:
        f.write(base64.b64decode({wheel!r}))
    return {file_name!r}
"""


def wheel_name(name: str, version: str = "1.0", tag: str = "py3-none-any") -> str:
    """The file name of a wheel."""
    return f"{_module(name)}-{version}-{tag}.whl"


def wheel(
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    metadata: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> bytes:
    """A wheel with an empty package of its name, or with ``files`` (path → text).

    Args:
        name: The project's name.
        version: Its version.
        requires: What it depends on.
        files: Its files; those of ``.dist-info`` may be among them, such as ``entry_points.txt`` alone.
        metadata: More lines of METADATA, such as ``Provides-Extra: x``.
        tag: What it is built for.
    """
    info = f"{_module(name)}-{version}.dist-info"
    said = [f"Name: {name}", f"Version: {version}", *metadata, *(f"Requires-Dist: {text}" for text in requires)]
    contents = {
        **(files if files is not None else {f"{_module(name)}/__init__.py": ""}),
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *said, ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if "entry_points.txt" in contents:
        contents[f"{info}/entry_points.txt"] = contents.pop("entry_points.txt")
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in contents.items())
    contents[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return data.getvalue()


def source(name: str, version: str = "1.0", *, before: str = "pass", requires: Sequence[str] = ()) -> bytes:
    """A source package (``.tar.gz``) with a build backend of its own.

    Args:
        name: The project's name.
        version: Its version.
        before: One statement that its build runs first, such as ``raise SystemExit("no")``.
        requires: What it depends on.
    """
    made = base64.b64encode(wheel(name, version, requires=requires)).decode()
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
    depends = ", ".join(f'"{text}"' for text in requires)
    return archive(
        f"{name}-{version}",
        {
            "PKG-INFO": "\n".join(["Metadata-Version: 2.2", *metadata, ""]),
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "made"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = [{depends}]\n',
            "made.py": _BACKEND.format(before=before, file_name=wheel_name(name, version), wheel=made),
        },
    )


def archive(folder: str, files: Mapping[str, str]) -> bytes:
    """A ``.tar.gz`` of ``files`` (path → text) under ``folder``."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as made:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{folder}/{path}")
            info.size = len(text.encode())
            made.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def _module(name: str) -> str:
    return name.replace("-", "_")


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
