from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from windlassd.envs import _uv
from windlassd.envs._index import IndexSettings
from windlassd.envs._process import open_folder
from windlassd.envs.base import EnvironmentFailed, Work

NONE = IndexSettings({"PATH": "/usr/bin:/bin"}, (), {}, ())


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    _uv.program.cache_clear()
    yield
    _uv.program.cache_clear()


def call() -> str:
    return _uv.run_uv(["--version"], NONE, Work(print), asked=(), python_version="3.11.7")


def test_a_missing_uv_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> str:
        raise FileNotFoundError("nowhere")

    monkeypatch.setattr(uv, "find_uv_bin", find)
    with pytest.raises(EnvironmentFailed, match=r"uv, .*cannot be started: nowhere\. .*--force-reinstall uv"):
        call()


@pytest.mark.parametrize("mode", [None, 0o600], ids=["gone", "no program"])
def test_a_uv_that_went_away_meanwhile_says_so_too(
    mode: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(tmp_path / "uv"))
    if mode is not None:
        (tmp_path / "uv").touch(mode)
    with pytest.raises(EnvironmentFailed, match=r"cannot be started: .*uv.*--force-reinstall uv"):
        call()


def test_what_uv_says_of_an_open_folder_is_said_of_its_own_path(tmp_path: Path) -> None:
    lines: list[str] = []
    with open_folder(str(tmp_path)) as folder:
        args = ["pip", "list", "--python", f"{folder.path}/bin/python"]
        with pytest.raises(EnvironmentFailed) as failed:
            _uv.run_uv(args, NONE, Work(lines.append), asked=(), python_version="3.11.7", folder=folder)
    for said in ("".join(lines), failed.value.message):
        assert f"{tmp_path}/bin/python" in said and "/proc/" not in said
