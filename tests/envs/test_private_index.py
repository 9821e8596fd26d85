"""An index that asks for a login, or whose certificate is private: pip's settings reach uv, secrets nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import own
from windlassd.envs.venv import VenvBuilder, create
from windlassd.testing.package_index import PackageIndex

USER, SECRET = "team", "s3cr%40t-w0rd"  # as it stands in an address; the password itself has an @
PASSWORD = "s3cr@t-w0rd"
SPEC = EnvironmentSpec(pip_packages=("tiny",), python_version=own().version)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any settings; returns its home."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "SSL_")):
            monkeypatch.delenv(name)
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user / ".config"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return user


@pytest.fixture
def index(alone: Path) -> Iterator[PackageIndex]:
    with PackageIndex() as made:
        made.login = (USER, PASSWORD)
        made.add("tiny", requires=["tinier"])
        made.add("tinier")
        yield made


@pytest.fixture
def venv(tmp_path: Path) -> VenvBuilder:
    (tmp_path / "environments").mkdir()
    return create(str(tmp_path / "environments" / "interpreters.json"))


Way = Callable[[Path, PackageIndex, pytest.MonkeyPatch], None]


def _pip_index_url(user: Path, index: PackageIndex, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PIP_INDEX_URL", index.url_with(USER, SECRET))


def _pip_extra_index_url(user: Path, index: PackageIndex, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PIP_INDEX_URL", "file:///nowhere/simple")
    patch.setenv("PIP_EXTRA_INDEX_URL", index.url_with(USER, SECRET))


def _pip_conf(user: Path, index: PackageIndex, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("PIP_CONFIG_FILE")
    (user / ".config" / "pip").mkdir(parents=True)
    (user / ".config" / "pip" / "pip.conf").write_text(f"[global]\nindex-url = {index.url_with(USER, SECRET)}\n")


def _netrc(user: Path, index: PackageIndex, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PIP_INDEX_URL", index.url)
    (user / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    (user / ".netrc").chmod(0o600)


def _uv_toml(user: Path, index: PackageIndex, patch: pytest.MonkeyPatch) -> None:
    (user / ".config" / "uv").mkdir(parents=True)
    (user / ".config" / "uv" / "uv.toml").write_text(
        f'[[index]]\nname = "team"\nurl = "{index.url}"\ndefault = true\nauthenticate = "always"\n'
    )
    patch.setenv("UV_INDEX_TEAM_USERNAME", USER)
    patch.setenv("UV_INDEX_TEAM_PASSWORD", PASSWORD)


@pytest.mark.parametrize("way", [_pip_index_url, _pip_extra_index_url, _pip_conf, _netrc, _uv_toml])
def test_every_way_to_give_a_login_works_and_shows_it_nowhere(
    way: Way, alone: Path, index: PackageIndex, venv: VenvBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way(alone, index, monkeypatch)
    lines: list[str] = []
    lock = venv.resolve(SPEC, Work(lines.append))
    assert lock.package_count == 2
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another-cache"))  # the build gets the files itself
    _build(venv, lock, tmp_path, lines)
    index.login = (USER, "changed")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "a-third-cache"))
    with pytest.raises(EnvironmentFailed, match=r"refuses access \(401 Unauthorized\)") as caught:
        _build(venv, lock, tmp_path / "again", lines)
    assert not caught.value.transient
    shown = repr(lock) + lock.key + "".join(lines) + repr(venv.request(SPEC)) + caught.value.message
    for secret in (SECRET, PASSWORD):
        assert secret not in shown
        found = subprocess.run(["grep", "-rlaF", secret, tmp_path], capture_output=True, text=True).stdout.split()
        assert [path for path in found if not path.startswith(str(alone))] == []


def test_a_private_certificate_authority_is_trusted_when_pip_is_told_of_it(
    alone: Path, venv: VenvBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PackageIndex(certificate(tmp_path)) as index:
        index.add("tiny")
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        with pytest.raises(EnvironmentFailed, match=r"certificate is not trusted") as caught:
            venv.resolve(SPEC, Work(_drop))
        assert "PIP_CERT" in caught.value.message and index.host in caught.value.message
        monkeypatch.setenv("PIP_CERT", str(tmp_path / "ca.pem"))
        assert venv.resolve(SPEC, Work(_drop)).package_count == 1


def test_an_index_beside_another_that_refuses_access_is_told_instead_of_a_package_that_is_not_found(
    index: PackageIndex, venv: VenvBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PackageIndex() as public:
        public.add("common", "2.0")
        public.add("asks-for-it", requires=["tiny"])
        index.add("common", "1.0+ours")
        monkeypatch.setenv("PIP_INDEX_URL", public.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
        for package in ("tiny", "asks-for-it", "common==1.0+ours"):
            spec = EnvironmentSpec(pip_packages=(package,))
            with pytest.raises(EnvironmentFailed, match=rf"{index.host} refuses access \(401 .*none is set"):
                venv.resolve(spec, Work(_drop))
        with pytest.raises(EnvironmentFailed, match="'nowhere-at-all' cannot be found"):
            index.login = None
            venv.resolve(EnvironmentSpec(pip_packages=("nowhere-at-all",)), Work(_drop))


def certificate(folder: Path) -> tuple[str, str]:
    """(certificate, key) for 127.0.0.1, signed by the authority ``ca.pem`` of the same folder."""
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    _openssl(folder, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Authority")
    _openssl(
        folder, "req", "-x509", *new_key, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=127.0.0.1",
        "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    return str(folder / "server.pem"), str(folder / "server.key")


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def _build(venv: VenvBuilder, lock: Lock, folder: Path, lines: list[str]) -> None:
    prefix = folder / "environment"
    prefix.mkdir(parents=True)
    venv.build(lock, str(prefix), Work(lines.append))
    assert venv.check(lock, str(prefix), Work(lines.append)) is None


def _drop(line: str) -> None:
    pass
