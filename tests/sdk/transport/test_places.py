"""Where things lie, and who may enter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlass import settings
from windlass._transport import places
from windlass.errors import UserErrorException


def test_a_workspace_lies_under_the_home(home: Path) -> None:
    assert places.workspace_dir("My.ws-1_x") == str(home / "workspaces" / "My.ws-1_x")
    assert not (home / "workspaces").exists() and places.workspaces() == []
    for name in ("b", "a"):
        (home / "workspaces" / name).mkdir(parents=True)
    (home / "workspaces" / "file").touch()
    assert places.workspaces() == ["a", "b"]


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "a b", "ä", "a\n", "x" * 65, "a\0"])
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(UserErrorException, match="cannot name a workspace"):
        places.workspace_dir(name)


def test_a_short_path_holds_its_own_socket(tmp_path: Path) -> None:
    assert places.socket_path("/h/ws") == "/h/ws/server/server.sock"


def test_long_paths_get_sockets_of_their_own_in_a_short_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "runtime_dir", lambda: str(tmp_path / "windlass"))
    first, second = (places.socket_path("/" + "d" * 120 + name) for name in "ab")
    assert first != second and first == places.socket_path("/" + "d" * 120 + "a")
    assert os.path.dirname(first) == str(tmp_path / "windlass") and len(os.fsencode(first)) < 108
    umlauts = places.socket_path("/" + "ä" * 45)
    assert umlauts.startswith(str(tmp_path)) and len("/" + "ä" * 45 + "/server/server.sock") < 100


def test_a_private_folder_is_made_and_tightened(tmp_path: Path) -> None:
    path = places.private_dir(str(tmp_path / "a" / "b"))
    assert os.stat(path).st_mode & 0o777 == 0o700
    os.chmod(path, 0o755)
    assert os.stat(places.private_dir(path)).st_mode & 0o777 == 0o700


def test_somebody_elses_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "windlass-0"
    folder.mkdir()
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(UserErrorException, match=r"belongs to the user with id \d+, not to you"):
        places.private_dir(str(folder))


def test_a_link_among_everybodys_names_is_refused_and_one_to_a_home_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert places.private_dir(str(tmp_path / "link")) == str(tmp_path / "link")
    monkeypatch.setattr(settings, "runtime_dir", lambda: str(tmp_path / "link"))
    with pytest.raises(UserErrorException, match="is a link, which anybody may have put there"):
        places.socket_path("/" + "d" * 120)


def test_the_short_folder_is_the_same_with_and_without_a_login_session(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings.runtime_dir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/somebody")
    assert settings.runtime_dir() == before
