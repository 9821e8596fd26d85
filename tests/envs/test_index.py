from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlassd.envs._index import index_settings
from windlassd.envs.base import EnvironmentFailed


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "SSL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def test_pips_variables_become_uvs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PIP_INDEX_URL": "http://a/simple",
        "PIP_EXTRA_INDEX_URL": "http://b/simple  http://c/simple",
        "PIP_FIND_LINKS": "/w1 /w2",
        "PIP_CERT": "/ca.pem",
        "PIP_NO_INDEX": "1",
    }.items():
        monkeypatch.setenv(name, value)
    found = index_settings()
    env = found.environment
    assert env["UV_DEFAULT_INDEX"] == "http://a/simple"
    assert env["UV_INDEX"] == "http://b/simple http://c/simple"
    assert env["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert env["UV_FIND_LINKS"] == "/w1,/w2"
    assert env["SSL_CERT_FILE"] == "/ca.pem"
    assert found.options == ("--no-index",)


def test_uvs_own_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://pip/simple")
    monkeypatch.setenv("UV_INDEX_URL", "http://uv/simple")
    env = index_settings().environment
    assert env["UV_INDEX_URL"] == "http://uv/simple"
    assert "UV_DEFAULT_INDEX" not in env


def test_this_processs_own_python_settings_do_not_reach_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON"):
        monkeypatch.setenv(name, "/x")
    env = index_settings().environment
    assert not {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PYTHON"} & set(env)
    assert env["UV_PYTHON_DOWNLOADS"] == "never"


def test_pip_conf_is_read_and_variables_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = http://file/simple\nfind_links =\n    /w1\n    /w2\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert index_settings().environment["UV_FIND_LINKS"] == "/w1,/w2"
    assert index_settings().environment["UV_DEFAULT_INDEX"] == "http://file/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "http://variable/simple")
    assert index_settings().environment["UV_DEFAULT_INDEX"] == "http://variable/simple"


def test_the_users_pip_conf_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_CONFIG_FILE")
    (tmp_path / "config" / "pip").mkdir(parents=True)
    (tmp_path / "config" / "pip" / "pip.conf").write_text("[install]\nindex-url = http://mine/simple\n")
    assert index_settings().environment["UV_DEFAULT_INDEX"] == "http://mine/simple"


def test_a_broken_pip_conf_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("index-url = http://me:s3cr3t@file/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    with pytest.raises(EnvironmentFailed, match=r"pip\.conf cannot be read") as caught:
        index_settings()
    assert "s3cr3t" not in caught.value.message


def test_credentials_are_in_nothing_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cr%40t-word@example.com/simple")
    monkeypatch.setenv("UV_INDEX_TEAM_PASSWORD", "t34m-word")
    found = index_settings()
    assert "word" not in str(found.public)
    said = found.mask("GET https://me:s3cr%40t-word@example.com/simple 403 for s3cr@t-word and t34m-word")
    assert said == "GET https://****@example.com/simple 403 for **** and ****"


def test_another_uv_settings_file_is_another_request(tmp_path: Path) -> None:
    before = index_settings().public
    (tmp_path / "config" / "uv").mkdir(parents=True)
    (tmp_path / "config" / "uv" / "uv.toml").write_text("")
    assert index_settings().public != before


def test_a_changed_constraint_file_is_another_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "constraints.txt"
    file.write_text("torch==2.13.0\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(file))
    before = index_settings()
    assert before.environment["UV_CONSTRAINT"] == str(file)
    file.write_text("torch==2.13.0+cpu\n")
    assert index_settings().public != before.public


def test_what_chooses_versions_has_no_say_on_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "/limits.txt")
    monkeypatch.setenv("UV_BUILD_CONSTRAINT", "/build.txt")
    monkeypatch.setenv("PIP_INDEX_URL", "http://a/simple")
    kept = index_settings().for_a_lock().environment
    assert "UV_CONSTRAINT" not in kept and kept["UV_BUILD_CONSTRAINT"] == "/build.txt"
    assert kept["UV_DEFAULT_INDEX"] == "http://a/simple"


def test_a_login_is_known_by_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cr3t@a.example:8080/simple")
    (tmp_path / ".netrc").write_text("machine b.example login me password s3cr3t\n")
    (tmp_path / ".netrc").chmod(0o600)
    found = index_settings()
    assert found.has_login("a.example:8080") and found.has_login("b.example") and found.has_login("b.example:1")
    assert not found.has_login("a.example") and not found.has_login("c.example")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"PIP_CLIENT_CERT": "/me.pem"}, {"SSL_CLIENT_CERT": "/me.pem"}),
        ({"PIP_PROXY": "http://proxy:3128"}, {"HTTPS_PROXY": "http://proxy:3128", "HTTP_PROXY": "http://proxy:3128"}),
        ({"PIP_PROXY": "http://proxy:3128", "https_proxy": "http://mine:1"}, {"HTTP_PROXY": "http://proxy:3128"}),
        ({"PIP_RETRIES": "1", "PIP_TIMEOUT": "5"}, {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "5"}),
        ({"PIP_TRUSTED_HOST": "a b:8080"}, {"UV_INSECURE_HOST": "a b:8080"}),
        ({"PIP_BUILD_CONSTRAINT": "/b.txt"}, {"UV_BUILD_CONSTRAINT": "/b.txt"}),
        ({"PIP_UPLOADED_PRIOR_TO": "2024-01-01"}, {"UV_EXCLUDE_NEWER": "2024-01-01"}),
        ({"PIP_KEYRING_PROVIDER": "subprocess"}, {"UV_KEYRING_PROVIDER": "subprocess"}),
        ({"PIP_USE_FEATURE": "truststore"}, {"UV_SYSTEM_CERTS": "1"}),
        ({"PIP_PRE": "true"}, {"UV_PRERELEASE": "allow"}),
        ({"REQUESTS_CA_BUNDLE": "/r.pem"}, {"SSL_CERT_FILE": "/r.pem"}),
        ({"REQUESTS_CA_BUNDLE": "/r.pem", "PIP_CERT": "/p.pem"}, {"SSL_CERT_FILE": "/p.pem"}),
    ],
)
def test_how_pip_reaches_an_index_is_how_uv_does(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str], expected: dict[str, str]
) -> None:
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "all_proxy",
                 "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    env = index_settings().environment
    assert {name: env.get(name) for name in expected} == expected
    if "https_proxy" in options:
        assert "HTTPS_PROXY" not in env


def test_what_pip_never_takes_as_wheels_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_BINARY", "numpy,scipy")
    assert index_settings().options == ("--no-binary", "numpy", "--no-binary", "scipy")


def test_a_proxys_login_is_in_nothing_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_PROXY", "http://me:pr0xy-word@proxy:3128")
    found = index_settings()
    assert "pr0xy-word" not in str(found.public)
    assert found.mask("407 for pr0xy-word") == "407 for ****"


def test_uv_leaves_jobs_room_unless_its_user_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_CONCURRENT_BUILDS", raising=False)
    monkeypatch.setenv("UV_CONCURRENT_INSTALLS", "3")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    chosen = index_settings().environment
    assert (chosen["UV_CONCURRENT_BUILDS"], chosen["UV_CONCURRENT_INSTALLS"]) == ("32", "3")
    before = index_settings().public
    monkeypatch.setenv("UV_CONCURRENT_BUILDS", "1")
    assert index_settings().public == before, "no other versions, so no other request"
