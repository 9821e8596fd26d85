"""One Docker daemon, one Podman service, registries and base images for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.building import SEED, Kitchen
from windlassd.testing import container_engines
from windlassd.testing.container_engines import Bases
from windlassd.testing.package_index import PackageIndex


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Docker daemon of the tests' own."""
    with container_engines.docker(_short(tmp_path_factory, "dk")) as address:
        yield address


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory, registry: str, private_registry: str) -> Iterator[str]:
    """Address of a Podman service of the tests' own, which knows the registries."""
    with container_engines.podman(_short(tmp_path_factory, "pm"), insecure=(registry, private_registry)) as address:
        yield address


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a registry that takes everybody."""
    with container_engines.registry(_short(tmp_path_factory, "rg")) as address:
        yield address


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a registry that asks for a login."""
    with container_engines.registry(_short(tmp_path_factory, "rp"), login=True) as address:
        yield address


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """Home-made base images."""
    return Bases(tmp_path_factory.mktemp("bases"))


def _short(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder for sockets, whose paths must be short."""
    return factory.mktemp(name)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """An empty package index on this machine as the only one, and a fresh uv cache."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "DOCKER_", "CONTAINER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with PackageIndex() as made:
        monkeypatch.setenv("PIP_INDEX_URL", made.url)
        yield made


@pytest.fixture
def kitchen(docker: str, bases: Bases, index: PackageIndex, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    """A cache over Docker, which has the seed's image."""
    return _kitchen(docker, bases, monkeypatch)


@pytest.fixture(params=["docker", "podman"])
def each_kitchen(
    request: pytest.FixtureRequest, bases: Bases, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> Kitchen:
    """A cache over Docker, and one over Podman."""
    return _kitchen(request.getfixturevalue(request.param), bases, monkeypatch)


def _kitchen(engine: str, bases: Bases, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", engine)
    made = Kitchen(engine)
    for name in made.tags():
        if name.startswith("windlass/"):  # of another test, which would be found instead of built
            made.api.call("DELETE", f"/images/{name}", force="true")
    if made.inspect(SEED) is None:
        bases.image(engine, SEED)
    return made
