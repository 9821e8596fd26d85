"""What of this machine uv gets to see in a container, without a container."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from windlassd.envs import _container_session
from windlassd.envs._container_api import Api, EngineRefused
from windlassd.envs._container_session import Session
from windlassd.envs._index import IndexSettings
from windlassd.envs.base import Work


def seen(folder: Path, environment: Mapping[str, str], *wanted: str) -> tuple[list[str], Session]:
    """What is mounted, and a session with that."""
    index = IndexSettings({"HOME": str(folder), **environment}, (), {}, ())
    places = _container_session._places_named(index, wanted)
    return places, Session(Api("unix:///none", Work(print)), "c", str(folder), places, "0:0", ["UV_A=1", "PATH=/x"])


def test_files_that_settings_and_packages_name_are_mounted_and_others_not(tmp_path: Path) -> None:
    for name in ("house", "other", ".config/uv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ca.pem").touch()
    (tmp_path / ".netrc").touch()
    settings = {"UV_FIND_LINKS": f"{tmp_path}/house,{tmp_path}/absent", "SSL_CERT_FILE": f"{tmp_path}/ca.pem"}
    places, session = seen(tmp_path, {**settings, "SECRET_FILE": f"{tmp_path}/other"}, "six")
    assert places == [f"{tmp_path}/{name}" for name in (".config/uv", ".netrc", "ca.pem", "house")]
    assert session._seen(settings["UV_FIND_LINKS"]) == f"/dev/windlass/host{tmp_path}/house,{tmp_path}/absent"
    assert session._outside(f"in /dev/windlass/host{tmp_path}/house") == f"in {tmp_path}/house"


def test_addresses_stay_and_a_folder_that_is_an_index_comes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "pypi" / "simple").mkdir(parents=True)
    (tmp_path / "pypi" / "files").mkdir()
    local, remote = f"file://{tmp_path}/pypi/simple", "https://user:word@index.lab/tmp/simple"
    places, session = seen(tmp_path, {"UV_INDEX": f"{local} {remote}"})
    assert places == [f"{tmp_path}/pypi"]
    assert session._seen(f"{local} {remote}") == f"file:///dev/windlass/host{tmp_path}/pypi/simple {remote}"


def test_a_folder_within_another_is_mounted_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert seen(tmp_path, {}, f"--find-links {tmp_path}/a", f"pkg @ file://{tmp_path}/a/b")[0] == [f"{tmp_path}/a"]


def test_uv_gets_its_own_settings_and_nothing_of_the_machine(tmp_path: Path) -> None:
    index = IndexSettings(
        {"UV_INDEX": "x", "UV_CACHE_DIR": "/c", "AWS_SECRET_ACCESS_KEY": "s", "HTTPS_PROXY": "p"}, (), {}, ()
    )
    variables = seen(tmp_path, {})[1]._variables(index)
    assert variables["UV_INDEX"] == "x" and variables["HTTPS_PROXY"] == "p"
    assert variables["UV_CACHE_DIR"] == "/dev/windlass/cache" and "AWS_SECRET_ACCESS_KEY" not in variables


def test_the_images_settings_for_uv_are_taken_away(tmp_path: Path) -> None:
    assert "unset UV_A; " in " ".join(seen(tmp_path, {})[1]._clean(["uv"]))


def test_what_nobody_has_used_for_long_goes(tmp_path: Path) -> None:
    for name in ("caches/old", "caches/new", "tools-old", "tools-new"):
        (tmp_path / name).mkdir(parents=True)
        if name.endswith("old"):
            os.utime(tmp_path / name, (time.time() - 40 * 86400,) * 2)
    _container_session.forget_unused(str(tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["caches", "new", "tools-new"]


def test_a_container_that_outlived_its_folder_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "containers"
    live, dead, lost = (str(root / (sign * 32)) for sign in "abc")
    os.makedirs(dead)
    held = _container_session._locked_folder(live)
    labels = {"live": live, "dead": dead, "lost": lost, "job": "", "other": str(tmp_path / "elsewhere" / ("d" * 32))}
    known = [{"Id": name, "Labels": {_container_session.LABEL: label}} for name, label in labels.items()]
    removed: list[str] = []
    monkeypatch.setattr(Api, "call", lambda *words, **more: known)
    monkeypatch.setattr(_container_session, "remove_container", lambda api, container: removed.append(container))
    _container_session.sweep(str(root), "unix:///none")
    os.close(held)
    assert removed == ["dead", "lost"]
    assert os.path.isdir(live) and not os.path.exists(dead)


def test_a_container_that_cannot_be_removed_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, busy = tmp_path / "containers", True

    def call(api: Api, method: str, path: str, *words: object, **more: object) -> object:
        if method == "DELETE" and busy:
            raise EngineRefused("the device is busy", 500)
        listed = [{"Id": "c", "Labels": {_container_session.LABEL: path}} for path in map(str, root.glob("?" * 32))]
        return {"/containers/json": listed, "/containers/create": {"Id": "c"}, "/info": {}}.get(path)

    monkeypatch.setattr(Api, "call", call)
    monkeypatch.setattr(_container_session._container_tools, "folder", lambda root: str(root))
    monkeypatch.setattr(_container_session._container_tools, "private_buckets", lambda: ())
    index = IndexSettings({"HOME": str(tmp_path)}, (), {}, ())
    api = Api("unix:///none", Work(lambda line: None))
    with _container_session.opened(api, {"Id": "sha256:1"}, str(root), index):
        pass
    assert len(_container_session.abandoned(str(root))) == 1, "a sweep finds it by its folder"
    busy = False
    _container_session.sweep(str(root), api.engine)
    assert _container_session.abandoned(str(root)) == []
