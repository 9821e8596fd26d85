"""A conda channel in a folder, made by a test: a real Python, packages of files, and their index.

The index is written here: rattler's own indexer leaves threads behind that now and then crash a Python that ends.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PLACEHOLDER = "/placeholder_of_the_prefix" + "_padded" * 32
"""What stands in a package's files for the path of the prefix."""
_SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}.get(platform.machine(), "linux-64")
_LEFT_OUT = ("__pycache__", "site-packages", "test", "idlelib", "turtledemo", "lib2to3", "ensurepip")
_LEFT_OUT_ANYWHERE = {"test", "tests", "__pycache__", "pydoc_data", "tkinter"}


@dataclass(frozen=True)
class File:
    """A file of a package."""

    content: bytes
    executable: bool = False

    @classmethod
    def text(cls, text: str, *, executable: bool = False) -> File:
        """A file of that text."""
        return cls(text.encode(), executable)


class CondaChannel:
    """A channel at ``folder``, which is made when missing.

    Attributes:
        address: Its ``file://`` address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"file://{folder}"
        self._packages: dict[Path, Mapping[str, object]] = {}
        (folder / "noarch").mkdir(parents=True, exist_ok=True)
        (folder / _SUBDIR).mkdir(exist_ok=True)

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        build: str = "0",
        depends: Sequence[str] = (),
        files: Mapping[str, File] | None = None,
        links: Mapping[str, str] | None = None,
        subdir: str | None = None,
    ) -> Path:
        """Put a native package there; where a file has ``PLACEHOLDER`` the path of the prefix is written in its stead.

        Args:
            name: The package's name.
            version: Its version.
            build: Its build string.
            depends: Match specifications of what it needs.
            files: Path in the prefix → file; by default one of its own.
            links: Path in the prefix → what a symbolic link there points to.
            subdir: Such as ``linux-64``; by default this machine's.
        """
        files = files if files is not None else {f"share/{name}/version": File.text(version)}
        index = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends)}
        return self._write(index, files, links or {}, subdir or _SUBDIR, {})

    def add_python_package(
        self, name: str, version: str = "1.0", *, depends: Sequence[str] = ("python",), body: str = "", script: str = ""
    ) -> Path:
        """Put a package of Python alone there, for any platform; ``script`` names a command that runs its ``main``."""
        module = name.replace("-", "_")
        info = f"site-packages/{module}-{version}.dist-info"
        files = {
            f"site-packages/{module}/__init__.py": File.text(body),
            f"{info}/METADATA": File.text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"),
            f"{info}/INSTALLER": File.text("conda\n"),
            f"{info}/RECORD": File.text(""),
        }
        index = {"name": name, "version": version, "build": "py_0", "build_number": 0, "depends": list(depends),
                 "noarch": "python"}  # fmt: skip
        points = [f"{script} = {module}:main"] if script else []
        link = {"noarch": {"type": "python", "entry_points": points}, "package_metadata_version": 1}
        return self._write(index, files, {}, "noarch", {"info/link.json": link})

    def add_python(self, version: str | None = None, *, whole: bool = False) -> str:
        """Put the CPython that runs this there, its library as links to where it is installed; returns its version.

        Args:
            version: What the channel says its version is: for solving only, where another one is to be told.
            whole: True: with its library's files, for use where this machine's are not, which takes some seconds.
        """
        home = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable))).parent.parent
        name = "python{}.{}".format(*sys.version_info[:2])
        told = version or "{}.{}.{}".format(*sys.version_info[:3])
        library = home / "lib" / name
        kept = [item for item in os.listdir(library) if item not in _LEFT_OUT and not item.startswith("config-")]
        links = {} if whole else {f"lib/{name}/{item}": str(library / item) for item in kept}
        links |= {"bin/python": name, "bin/python3": name}
        program = _program(home / "bin" / name)
        files = {
            f"bin/{name}": File(_beside_its_library(program, home) if whole else program, executable=True),
            f"lib/{name}/site-packages/README.txt": File.text("Packages lie here.\n"),
        }
        files |= _library_files(home, library, kept) if whole else {}
        self.add("python", told, files=files, links=links)
        return told

    def publish(self) -> None:
        """Write the index of what is there now."""
        for folder in self.folder.iterdir():
            packages = {path.name: self._indexed(path) for path in sorted(folder.glob("*.tar.bz2"))}
            index = {"info": {"subdir": folder.name}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
            beside = folder / "repodata.json.new"
            beside.write_text(json.dumps(index))
            beside.replace(folder / "repodata.json")

    def _indexed(self, path: Path) -> Mapping[str, object]:
        content = path.read_bytes()
        hashes = {name: hashlib.new(name, content).hexdigest() for name in ("sha256", "md5")}
        return {**self._packages[path], **hashes, "size": len(content)}

    def _write(
        self,
        index: Mapping[str, object],
        files: Mapping[str, File],
        links: Mapping[str, str],
        subdir: str,
        more: Mapping[str, object],
    ) -> Path:
        folder = self.folder / subdir
        folder.mkdir(exist_ok=True)
        paths = [_entry(path, file) for path, file in files.items()]
        paths += [{"_path": path, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(),
                   "size_in_bytes": 0} for path in links]  # fmt: skip
        info = {
            "info/index.json": {**index, "subdir": subdir},
            "info/paths.json": {"paths": paths, "paths_version": 1},
            **more,
        }
        target = folder / "{name}-{version}-{build}.tar.bz2".format(**index)
        self._packages[target] = {**index, "subdir": subdir}
        with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
            for path, value in info.items():
                _put(archive, path, json.dumps(value).encode(), 0o644)
            for path, file in files.items():
                _put(archive, path, file.content, 0o755 if file.executable else 0o644)
            for path, place in links.items():
                link = tarfile.TarInfo(path)
                link.type, link.linkname = tarfile.SYMTYPE, place
                archive.addfile(link)
        return target


@functools.lru_cache(maxsize=2)
def _program(path: Path) -> bytes:
    return path.read_bytes()


def _beside_its_library(program: bytes, home: Path) -> bytes:
    """The program, looking for its shared library in the folder ``lib`` beside its own."""
    old, new = os.fsencode(home / "lib") + b"\0", b"$ORIGIN/../lib\0"
    return program.replace(old, new.ljust(len(old), b"\0"))


def _library_files(home: Path, library: Path, kept: Sequence[str]) -> Mapping[str, File]:
    found = [[library / item, *(library / item).rglob("*")] for item in kept]
    paths = [path for group in found for path in group if path.is_file() and not _LEFT_OUT_ANYWHERE & {*path.parts}]
    paths += (home / "lib").glob("libpython*.so.*")
    return {str(path.relative_to(home)): File(path.read_bytes()) for path in paths if "_test" not in path.name}


def _entry(path: str, file: File) -> Mapping[str, object]:
    entry: dict[str, object] = {
        "_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(file.content).hexdigest(),
        "size_in_bytes": len(file.content),
    }  # fmt: skip
    if PLACEHOLDER.encode() in file.content:
        entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in file.content else "text"}
    return entry


def _put(archive: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    item = tarfile.TarInfo(path)
    item.size, item.mode = len(content), mode
    archive.addfile(item, io.BytesIO(content))
