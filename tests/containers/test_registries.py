"""Images from registries and into them: logins, refusals, and one build for all machines."""

from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path

import pytest

from containers.building import SEED, Kitchen, spec
from windlass import settings
from windlass.specs.container import ContainerSpec
from windlassd.envs._container_images import Name, push, tag
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.registry_logins import RegistryLogins, logins_of
from windlassd.testing.container_engines import PASSWORD, USER, Bases
from windlassd.testing.package_index import PackageIndex

pytestmark = pytest.mark.containers


@pytest.fixture
def logins(kitchen: Kitchen) -> RegistryLogins:
    return logins_of(kitchen.cache.root)


def in_registry(kitchen: Kitchen, registry: str, name: str, logins: RegistryLogins) -> ContainerSpec:
    """The seed's image as ``name`` in the registry, and no longer under that name in the engine."""
    push(kitchen.api, SEED, Name(f"{registry}/{name}", "1"), logins)
    kitchen.api.call("DELETE", f"/images/{registry}/{name}:1")
    return ContainerSpec(image=f"{name}:1", registry=registry)


def test_an_image_is_pulled_from_its_registry(
    kitchen: Kitchen, registry: str, logins: RegistryLogins, index: PackageIndex
) -> None:
    index.add("alpha")
    ready = kitchen.prepare(spec("alpha", container=in_registry(kitchen, registry, "team/base", logins)))
    assert f"Pulling {registry}/team/base:1." in kitchen.lines
    assert kitchen.python(ready, "import alpha; print(1)") == "1"


def test_another_machine_takes_what_the_first_has_pushed(
    kitchen: Kitchen, bases: Bases, podman: str, registry: str, logins: RegistryLogins, index: PackageIndex,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("WINDLASS_CONTAINER_REGISTRY", f"{registry}/windlass")
    index.add("alpha")
    asked = spec("alpha", container=in_registry(kitchen, registry, "shared/base", logins))
    first = kitchen.prepare(asked)
    assert f"Pushing {registry}/windlass/env:{first.key}." in kitchen.lines

    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", podman)
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "other"))
    other = Kitchen(podman)
    second = other.prepare(asked)
    assert second.key == first.key
    assert f"Pulling {registry}/windlass/env:{first.key}." in other.lines
    assert "Committing the image." not in other.lines
    assert other.python(second, "import alpha; print(1)") == "1"
    other.cache.remove(second.key)
    assert not [name for name in other.tags() if second.key in name]


def test_a_registry_that_takes_no_images_does_not_fail_the_run(
    kitchen: Kitchen, private_registry: str, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_CONTAINER_REGISTRY", private_registry)
    index.add("alpha")
    ready = kitchen.prepare(spec("alpha"))
    assert kitchen.python(ready, "import alpha; print(1)") == "1"
    assert "cannot be pushed" in kitchen.log and private_registry in kitchen.log


def test_a_registry_that_can_be_none_is_refused_with_the_settings_name(
    kitchen: Kitchen, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("alpha")
    for junk in ("not a registry", "registry.lab/UPPER", "a:b"):
        monkeypatch.setenv("WINDLASS_CONTAINER_REGISTRY", junk)
        with pytest.raises(EnvironmentFailed, match=f"container_registry='{junk}' is no address"):
            kitchen.prepare(spec("alpha"))
    assert kitchen.containers() == []


class TestLogins:
    @pytest.fixture
    def private(self, kitchen: Kitchen, private_registry: str, logins: RegistryLogins) -> ContainerSpec:
        """An image behind a login, which is not kept any more."""
        logins.put(private_registry, USER, PASSWORD)
        asked = in_registry(kitchen, private_registry, "secret/base", logins)
        logins.delete(private_registry)
        return asked

    def test_without_one_the_registry_refuses(self, kitchen: Kitchen, private: ContainerSpec) -> None:
        with pytest.raises(EnvironmentFailed, match=rf"{private.registry} refuses access to .*secret/base:1") as caught:
            kitchen.prepare(spec(container=private))
        assert "image_registry_details" in str(caught.value) and "docker login" in str(caught.value)

    def test_a_wrong_one_is_told_from_none(
        self, kitchen: Kitchen, private: ContainerSpec, logins: RegistryLogins
    ) -> None:
        logins.put(private.registry, USER, "not-the-password")
        with pytest.raises(EnvironmentFailed, match="does not take the login for") as caught:
            kitchen.prepare(spec(container=private))
        assert "not-the-password" not in str(caught.value) + kitchen.log

    def test_one_that_was_sent_is_used_and_shows_nowhere(
        self, kitchen: Kitchen, private: ContainerSpec, logins: RegistryLogins, index: PackageIndex
    ) -> None:
        index.add("alpha")
        logins.put(f"https://{private.registry}/v2", USER, PASSWORD)
        ready = kitchen.prepare(spec("alpha", container=private))
        assert PASSWORD not in kitchen.log + json.dumps(kitchen.inspect(str(ready.image)))
        home = Path(settings.home())
        holding = [path for path in home.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
        assert [path.name for path in holding] == ["registry-logins.json"]
        assert holding[0].stat().st_mode & 0o777 == 0o600

    def test_dockers_own_login_counts_too(
        self,
        kitchen: Kitchen,
        private: ContainerSpec,
        index: PackageIndex,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "docker").mkdir()
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {private.registry: {"auth": auth}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        assert kitchen.prepare(spec(container=private)).image

    def test_a_dockerfile_may_begin_with_an_image_behind_one(
        self, kitchen: Kitchen, private: ContainerSpec, logins: RegistryLogins
    ) -> None:
        assert private.registry
        logins.put(private.registry, USER, PASSWORD)
        text = f"FROM {private.registry}/{private.image}\nENV FROM_PRIVATE=1\n"
        ready = kitchen.prepare(spec(container=ContainerSpec(dockerfile=text)))
        assert kitchen.python(ready, "import os; print(os.environ['FROM_PRIVATE'])") == "1"


class TestRefusals:
    def test_no_such_image_names_near_ones(self, kitchen: Kitchen, registry: str, logins: RegistryLogins) -> None:
        tag(kitchen.api, SEED, Name(f"{registry}/vision/trainer", "2.0"))
        with pytest.raises(EnvironmentFailed, match=f"no image {registry}/vision/trainr:2.0 at {registry}") as caught:
            kitchen.prepare(spec(container=ContainerSpec(image="vision/trainr:2.0", registry=registry)))
        assert "Did you mean 'vision/trainer:2.0'?" in caught.value.message

    def test_a_registry_that_is_not_there(self, kitchen: Kitchen) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"localhost:{free.getsockname()[1]}"
        with pytest.raises(EnvironmentFailed, match=f"the registry {address} cannot be reached") as caught:
            kitchen.prepare(spec(image=f"{address}/team/base:1"))
        assert caught.value.transient

    def test_a_newer_image_is_pulled_by_a_refresh_alone(
        self, kitchen: Kitchen, bases: Bases, registry: str, logins: RegistryLogins
    ) -> None:
        asked = spec(container=in_registry(kitchen, registry, "moving/base", logins))
        first = kitchen.prepare(asked)
        bases.image(kitchen.engine, "newer:1", changes=["ENV NEWER=1"])
        push(kitchen.api, "newer:1", Name(f"{registry}/moving/base", "1"), logins)
        tag(kitchen.api, SEED, Name(f"{registry}/moving/base", "1"))
        assert kitchen.prepare(asked).key == first.key
        second = kitchen.refresh(asked)
        assert second.key != first.key
        assert kitchen.python(second, "import os; print(os.environ['NEWER'])") == "1"
        assert os.path.isdir(kitchen.cache.root)
