"""The SDK in a job on another machine than the server's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from windlass import _away, settings
from windlass._handover import hand_over
from windlass._transport import autostart, places
from windlass._transport.client import Client
from windlass.errors import UserErrorException


@pytest.fixture
def node(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the folder of the workspace ``test`` on a node, to whose job this process belongs."""
    folder = home / "nodes" / "w1" / "parts" / "run_1.1.0" / "test"
    folder.mkdir(parents=True)
    for name, value in (
        (settings.ELSEWHERE_VARIABLE, "1"), (settings.RUN_ID_VARIABLE, "run_1"),
        (settings.WORKSPACE_DIR_VARIABLE, str(folder)), (settings.SPOOL_DIR_VARIABLE, str(folder / "spool")),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    return folder


class Deaf(Client):
    """A client whose server is never to be asked."""

    def call(self, *words: Any, **more: Any) -> Any:
        raise AssertionError("nobody is to be asked")


def test_the_jobs_workspace_is_found_by_its_name_and_no_other(node: Path, home: Path) -> None:
    assert places.workspace_dir("test") == str(node)
    assert places.workspace_dir("other") == str(home / "workspaces" / "other")


def test_no_server_is_started_on_a_node(node: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserErrorException, match=r"'?other'? is not on this machine, and none can be started here"):
        autostart.ensure_server(str(home / "workspaces" / "other"))
    monkeypatch.delenv(settings.RUN_ID_VARIABLE)  # a script's child may drop what it does not know
    with pytest.raises(UserErrorException, match="none can be started here"):
        autostart.ensure_server(str(node))
    assert not (home / "workspaces").exists()


def test_spools_lie_on_the_node_whatever_the_server_says(node: Path) -> None:
    found = _away.spool_folder(Client(str(node)), "run_1_0", {"spool": "/of/the/server"})
    assert found == str(node / "clients" / "run_1_0" / "spool")
    assert os.path.isdir(found)


def test_here_spools_lie_where_the_server_says() -> None:
    assert _away.spool_folder(Client("/ws"), "run_1_0", {"spool": "/of/the/server"}) == "/of/the/server"


def test_files_are_sent_and_not_handed_over_by_their_path(node: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    found = list(hand_over(Deaf(str(node)), "/v1/runs/r/copies", [("a", str(tmp_path / "a"))]))
    assert [known for _, known in found] == [None]
