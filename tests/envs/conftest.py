"""A package index that is a folder: wheels written by the tests, and a source package whose build can be held."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

_BACKEND = """
import base64, os
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    hold = {hold!r}
    if not os.path.exists(hold + "/go"):
        with open(hold + "/started", "w") as f:
            f.write(str(os.getpid()))
        with open(hold + "/release") as f:
            f.read()
    with open(os.path.join(wheel_directory, {name!r}), "wb") as f:
        f.write(base64.b64decode({wheel!r}))
    return {name!r}
"""


class Wheelhouse:
    """The folder that PIP_FIND_LINKS names; there is no other index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(
        self, name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), body: str = "", script: str = ""
    ) -> None:
        """Put a wheel there; ``script`` is the name of a console script that runs ``main`` of its module."""
        (self.folder / _wheel_name(name, version)).write_bytes(_wheel(name, version, requires, body, script))

    def add_held(self, name: str, hold: Path) -> Hold:
        """Put a source package there whose build waits until it is let go."""
        wheel = base64.b64encode(_wheel(name, "1.0", (), "", "")).decode()
        files = {
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "held"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\n',
            "held.py": _BACKEND.format(hold=str(hold), name=_wheel_name(name, "1.0"), wheel=wheel),
        }
        with tarfile.open(self.folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
            for path, text in files.items():
                info = tarfile.TarInfo(f"{name}-1.0/{path}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return Hold(hold)


class Hold:
    """Where a held build says that it has begun, and waits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        os.mkfifo(folder / "started")
        os.mkfifo(folder / "release")

    def wait_started(self) -> int:
        """The process id of the build, once it has begun."""
        return int((self._folder / "started").read_text())

    def release(self) -> None:
        """Let the build that waits go on."""
        (self._folder / "release").write_text("")

    def let_pass(self) -> None:
        """Builds begun from now on do not wait."""
        (self._folder / "go").touch()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheelhouse:
    """An empty wheelhouse as the only index, and a fresh uv cache."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    house = Wheelhouse(tmp_path / "wheelhouse")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house.folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return house


def _wheel_name(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def _wheel(name: str, version: str, requires: tuple[str, ...], body: str, script: str) -> bytes:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{module}/__init__.py": body,
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {text}\n" for text in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {module}:main\n"
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return data.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
