from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from windlassd.envs._unreadable import uv_config


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_uv_is_told_what_an_unreadable_release_needs(env: dict[str, str]) -> None:
    told = uv_config(("numpy", "pandas>=0.22.0,<=0.23.4"), env)
    assert told
    [entry] = [e for e in tomllib.loads(told)["dependency-metadata"] if e["version"] == "0.23.4"]
    assert entry["name"] == "pandas" and "pytz>=2011" in entry["requires-dist"]


@pytest.mark.parametrize("packages", [("pandas",), ("pandas==0.25.3",), ("numpy==0.23.4",), ()])
def test_other_lists_are_left_alone(env: dict[str, str], packages: tuple[str, ...]) -> None:
    assert uv_config(packages, env) is None


def test_the_users_own_file_stays_in_force(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text('offline = true\n[[index]]\nurl = "http://mine/simple"\n')
    told = tomllib.loads(uv_config(("pandas==0.24.2",), env) or "")
    assert told["offline"] is True and told["index"] == [{"url": "http://mine/simple"}]
    assert len(told["dependency-metadata"]) == 6
    (tmp_path / "uv" / "uv.toml").write_text("dependency-metadata = []\n")
    assert uv_config(("pandas==0.24.2",), env) is None
