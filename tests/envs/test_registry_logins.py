from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.envs.registry_logins import RegistryLogins, registry_host


@pytest.fixture
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryLogins:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return RegistryLogins(str(tmp_path / "home" / "registry-logins.json"))


def test_the_last_login_of_a_registry_counts_and_others_stay(logins: RegistryLogins) -> None:
    logins.put("lab:5000", "ada", "one")
    logins.put("other.lab", "eve", "two")
    logins.put("https://LAB:5000/v2/", "bob", "three")
    assert [(login.address, login.username) for login in logins.list()] == [("lab:5000", "bob"), ("other.lab", "eve")]
    found = logins.find("lab:5000")
    assert found and found.password == "three" and "three" not in repr(found)
    assert logins.find("lab:5000", "ada") is None
    logins.delete("lab:5000")
    assert logins.find("lab:5000") is None
    with pytest.raises(UserErrorException, match=r"no login for the registry 'lab:5000'. Kept are: other\.lab"):
        logins.delete("lab:5000")


def test_only_the_user_can_read_the_file(logins: RegistryLogins, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        logins.put("lab", "ada", "one")
    finally:
        os.umask(before)
    path = tmp_path / "home" / "registry-logins.json"
    assert path.stat().st_mode & 0o077 == 0
    assert {p.name for p in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


@pytest.mark.parametrize("address", [None, "", "http://", "a b", "lab:port", "-lab", 5])
def test_what_is_no_address_is_refused(logins: RegistryLogins, address: object) -> None:
    with pytest.raises(UserErrorException, match="is no address of a registry"):
        logins.put(address, "ada", "one")


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("x", ""), (None, "x"), ("x", 5)])
def test_a_login_is_whole(logins: RegistryLogins, username: object, password: object) -> None:
    with pytest.raises(UserErrorException, match="a username and a password"):
        logins.put("lab", username, password)
    assert logins.list() == []


def test_a_damaged_file_counts_as_none(logins: RegistryLogins, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "registry-logins.json").write_text('{"lab": "text", "other": [1]')
    assert logins.list() == []
    logins.put("lab", "ada", "one")
    assert len(logins.list()) == 1


def test_dockers_own_login_stands_in(logins: RegistryLogins, tmp_path: Path) -> None:
    assert logins.header("lab:5000") is None
    (tmp_path / "docker").mkdir()
    auth = base64.b64encode(b"eve:two").decode()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {"lab:5000": {"auth": auth}}}))
    assert _decoded(logins.header("lab:5000"))["username"] == "eve"
    logins.put("lab:5000", "ada", "one")
    assert _decoded(logins.header("lab:5000"))["username"] == "ada"
    assert _decoded(logins.config_header())["lab:5000"]["username"] == "ada"


def test_the_default_registry_has_one_name() -> None:
    name = "docker.io"
    assert {registry_host(text) for text in (name, f"index.{name}", f"https://index.{name}/v1/")} == {name}


def _decoded(header: str | None) -> dict[str, object]:
    assert header
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(header))
    return found


def test_a_password_is_masked_in_what_an_engine_says(logins: RegistryLogins) -> None:
    logins.put("lab", "ada", "s3cret-word")
    assert logins.mask("no: s3cret-word is wrong") == "no: **** is wrong"
