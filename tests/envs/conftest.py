"""A package index that is a folder: wheels written by the tests, and a source package whose build can be held."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from windlassd.testing.packages import archive, wheel, wheel_name

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
        folder.mkdir(exist_ok=True)

    def add(
        self, name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), body: str = "", script: str = ""
    ) -> None:
        """Put a wheel there; ``script`` is the name of a console script that runs ``main`` of its module."""
        module = name.replace("-", "_")
        files = {f"{module}/__init__.py": body}
        if script:
            files["entry_points.txt"] = f"[console_scripts]\n{script} = {module}:main\n"
        (self.folder / wheel_name(name, version)).write_bytes(wheel(name, version, requires=requires, files=files))

    def add_held(self, name: str, hold: Path) -> Hold:
        """Put a source package there whose build waits until it is let go."""
        made = base64.b64encode(wheel(name)).decode()
        files = {
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "held"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "1.0"\n',
            "held.py": _BACKEND.format(hold=str(hold), name=wheel_name(name), wheel=made),
        }
        (self.folder / f"{name}-1.0.tar.gz").write_bytes(archive(f"{name}-1.0", files))
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
    return only_index(monkeypatch, tmp_path)


def only_index(patch: pytest.MonkeyPatch, place: Path) -> Wheelhouse:
    """The wheelhouse of the folder ``place``, made when missing, as the only index; uv's cache is there, too."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            patch.delenv(name)
    house = Wheelhouse(place / "wheelhouse")
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(house.folder))
    patch.setenv("UV_CACHE_DIR", str(place / "uv-cache"))
    patch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    return house
