"""Pythons that uv downloads: from a list and an archive that the tests make of the interpreter they run on."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from envs.conftest import Wheelhouse
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import interpreters
from windlassd.envs._pythons import Pythons
from windlassd.envs.base import EnvironmentFailed, EnvironmentStopped, Work
from windlassd.envs.interpreters import Interpreter, Interpreters
from windlassd.envs.venv import create
from windlassd.testing.builder_suite import quiet

_LEFT_OUT = ("test", "site-packages", "idlelib", "tkinter", "ensurepip", "lib2to3", "__pycache__", "pydoc_data")
OWN = "{}.{}.{}".format(*sys.version_info)


def packed(python: str, to: Path) -> Path:
    """An archive such as uv downloads, of the interpreter at ``python``."""
    minor = os.path.basename(os.path.realpath(python))
    lib = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(python))), "lib", minor)

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = os.path.basename(info.name)
        return None if name in _LEFT_OUT or name.startswith("config-") else info

    archive = to / f"{minor}.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(os.path.realpath(python), f"python/bin/{minor}")
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"python/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, minor
            tar.addfile(link)
        tar.add(lib, f"python/lib/{minor}", filter=wanted)
    return archive


@dataclass
class Shop:
    """What uv sees as the list of Pythons to download."""

    list: Path
    folder: Path
    """Where they are put."""
    offered: dict[str, object] = field(default_factory=dict)

    def offer(self, version: str, url: str, sha256: str | None = None) -> None:
        """Put a release onto the list."""
        major, minor, patch = map(int, version.split("."))
        arch = platform.machine()
        self.offered[f"cpython-{version}-linux-{arch}-gnu"] = {
            "name": "cpython", "arch": {"family": arch, "variant": None}, "os": "linux", "libc": "gnu", "major": major,
            "minor": minor, "patch": patch, "prerelease": "", "url": url, "sha256": sha256, "variant": None,
        }  # fmt: skip
        self.list.write_text(json.dumps(self.offered))

    def fetched(self) -> Sequence[str]:
        """Folders of what was downloaded whole."""
        return sorted(path.name for path in self.folder.glob("cpython-*.*.*"))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """An empty list, and a machine that has one interpreter, which says that it is a 3.13."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    found = Shop(tmp_path / "list.json", tmp_path / "managed")
    found.list.write_text("{}")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(found.list))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(found.folder))
    monkeypatch.setattr(interpreters, "_folders", lambda: sorted(glob.glob(f"{found.folder}/*/bin")))
    mine = Interpreter(os.path.realpath(sys._base_executable), "3.13.0", "cpython")  # type: ignore[attr-defined]
    monkeypatch.setattr(interpreters, "own", lambda: mine)
    return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(sys._base_executable, tmp_path_factory.mktemp("archive"))  # type: ignore[attr-defined]


@pytest.fixture
def pythons(tmp_path: Path) -> Pythons:
    return Pythons(Interpreters(str(tmp_path / "interpreters.json")), str(tmp_path / "locks"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_version_that_is_not_here_is_downloaded_once_and_told(shop: Shop, archive: Path, pythons: Pythons) -> None:
    shop.offer(OWN, archive.as_uri(), sha256(archive))
    told: list[str] = []
    found = pythons.one(OWN, Work(told.append))
    assert (found.version, found.path.startswith(str(shop.folder))) == (OWN, True)
    assert told[0] == f"Python {OWN} is not on this machine; uv downloads it."
    assert any("Downloading" in line and "MiB" in line for line in told)
    assert any(line.startswith(f"Installed Python {OWN} in ") for line in told)
    again: list[str] = []
    assert pythons.one(OWN, Work(again.append)) == found and again == []


def test_who_wants_the_same_waits_for_the_one_download(
    shop: Shop, archive: Path, pythons: Pythons, tmp_path: Path
) -> None:
    shop.offer(OWN, archive.as_uri(), sha256(archive))
    others = Pythons(Interpreters(str(tmp_path / "interpreters.json")), str(tmp_path / "locks"))
    told: list[str] = []
    threads = [threading.Thread(target=p.one, args=(OWN, Work(told.append))) for p in (pythons, others, pythons)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("uv downloads it" in line for line in told) == 1
    assert len(shop.fetched()) == 1


def test_a_download_that_is_not_what_the_list_names_is_refused(shop: Shop, archive: Path, pythons: Pythons) -> None:
    shop.offer(OWN, archive.as_uri(), "0" * 64)
    with pytest.raises(
        EnvironmentFailed, match=r"could not download it: .*hash differs.* Installed: 3\.13\.0"
    ) as caught:
        pythons.one(OWN, quiet())
    assert caught.value.transient and shop.fetched() == []


def test_what_was_downloaded_must_be_that_version(shop: Shop, archive: Path, pythons: Pythons) -> None:
    wrong = "{}.{}.99".format(*sys.version_info)
    shop.offer(wrong, archive.as_uri(), sha256(archive))
    with pytest.raises(EnvironmentFailed, match=f"{wrong} was downloaded, but is none that runs here"):
        pythons.one(wrong, quiet())


def test_without_network_the_error_says_why_and_what_there_is(shop: Shop, pythons: Pythons) -> None:
    with socket.socket() as taken:  # bound and not listening: connecting is refused
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        shop.offer("3.9.25", f"http://user:s3cret@{host}/p.tar.gz")
        with pytest.raises(EnvironmentFailed) as caught:
            pythons.one("3.9", quiet())
    said = caught.value.message
    assert f"could not download it: {host}: " in said and "Connection refused" in said
    assert "Installed: 3.13.0." in said and "s3cret" not in said and caught.value.transient


class _Hanging(BaseHTTPRequestHandler):
    began = threading.Event()
    over = threading.Event()

    def do_GET(self) -> None:
        self.began.set()
        self.over.wait()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hanging() -> Iterator[str]:
    """Address of a server that never answers."""
    _Hanging.began.clear()
    _Hanging.over.clear()
    server = HTTPServer(("127.0.0.1", 0), _Hanging)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/python.tar.gz"
    _Hanging.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_ends_when_its_run_is_canceled(shop: Shop, hanging: str, pythons: Pythons) -> None:
    shop.offer("3.9.25", hanging)
    work = Work(lambda line: None)
    caught: list[Exception] = []

    def ask() -> None:
        try:
            pythons.one("3.9", work)
        except EnvironmentStopped as problem:
            caught.append(problem)

    thread = threading.Thread(target=ask)
    thread.start()
    assert _Hanging.began.wait(30)
    work.stop.set()
    thread.join(30)
    assert len(caught) == 1 and shop.fetched() == []


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("WINDLASS_PYTHON_DOWNLOADS", "never", "python_downloads"),
        ("UV_PYTHON_DOWNLOADS", "never", "UV_PYTHON_DOWNLOADS"),
        ("UV_PYTHON_DOWNLOADS", "manual", "UV_PYTHON_DOWNLOADS"),
        ("UV_OFFLINE", "1", "UV_OFFLINE"),
    ],
)
def test_nothing_is_downloaded_where_that_is_forbidden(
    shop: Shop, archive: Path, pythons: Pythons, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    shop.offer(OWN, archive.as_uri(), sha256(archive))
    monkeypatch.setenv(variable, value)
    with pytest.raises(EnvironmentFailed, match=f"machine: 3.13.0. Downloads by uv are switched off by .*{named}"):
        pythons.one(OWN, quiet())
    assert shop.fetched() == []


def test_uvs_own_settings_file_forbids_too(shop: Shop, archive: Path, pythons: Pythons, tmp_path: Path) -> None:
    shop.offer(OWN, archive.as_uri(), sha256(archive))
    (tmp_path / "config" / "uv").mkdir(parents=True)
    (tmp_path / "config" / "uv" / "uv.toml").write_text('python-downloads = "never"\n')
    with pytest.raises(EnvironmentFailed, match=r"switched off by .*uv\.toml"):
        pythons.one(OWN, quiet())


def test_a_refusal_tells_installed_ones_from_those_to_download(shop: Shop, pythons: Pythons) -> None:
    for version in ("3.9.7", "3.9.10", "3.12.1", "3.6.15"):
        shop.offer(version, "file:///nowhere")
    with pytest.raises(EnvironmentFailed) as caught:
        pythons.one("3.9.8", quiet())
    assert caught.value.message.startswith(
        "No interpreter for Python 3.9.8 can be had. Installed on this machine: 3.13.0. "
        "uv can download: 3.12.1, 3.9.10, 3.9.7. "
    )


def test_an_installed_python_is_taken_before_a_newer_download(shop: Shop, pythons: Pythons) -> None:
    shop.offer("3.13.9", "file:///nowhere")
    shop.offer("3.14.2", "file:///nowhere")
    assert [item.version for item in pythons.here(">=3.12")] == ["3.13.0"]
    assert [item.version for item in pythons.elsewhere(">=3.12")] == ["3.14.2"]
    assert pythons.one(">=3.12", quiet()).version == "3.13.0"


def test_an_environment_is_made_with_a_downloaded_python(shop: Shop, archive: Path, tmp_path: Path) -> None:
    shop.offer(OWN, archive.as_uri(), sha256(archive))
    builder = create(str(tmp_path / "interpreters.json"))
    lock = builder.resolve(EnvironmentSpec(python_version=OWN), quiet())
    prefix = tmp_path / "built"
    prefix.mkdir()
    builder.build(lock, str(prefix), quiet())
    assert lock.python.startswith(str(shop.folder))
    assert builder.check(lock, str(prefix), quiet()) is None


def test_a_framework_for_a_python_to_download_is_not_refused(shop: Shop, tmp_path: Path) -> None:
    builder, spec = create(str(tmp_path / "i.json")), EnvironmentSpec(framework="TensorFlow", framework_version="2.4")
    assert "runs on Python 3.7 to 3.8" in builder.unsupported(spec)["framework_version"]
    shop.offer("3.8.20", "file:///nowhere")
    other = create(str(tmp_path / "j.json"))
    assert other.unsupported(spec) == {}


@pytest.mark.interpreters
def test_a_list_that_fits_no_installed_python_gets_the_download_it_fits(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old] = [os.path.realpath(path) for path in glob.glob(os.path.expanduser("~/.pyenv/versions/3.9.*/bin/python"))]
    archive = packed(old, tmp_path)
    version = os.path.basename(os.path.dirname(os.path.dirname(old)))
    shop.offer(version, archive.as_uri(), sha256(archive))
    shop.offer("3.12.99", "file:///nowhere")  # newer, but without a wheel of the list
    house = Wheelhouse(tmp_path / "wheels")
    house.add("tiny")
    (house.folder / "tiny-1.0-py3-none-any.whl").rename(house.folder / "tiny-1.0-cp39-none-any.whl")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house.folder))
    told: list[str] = []
    lock = create(str(tmp_path / "i.json")).resolve(EnvironmentSpec(pip_packages=("tiny",)), Work(told.append))
    assert lock.python_version == version and lock.python.startswith(str(shop.folder))
    assert not any("3.12.99 is not on" in line for line in told)
