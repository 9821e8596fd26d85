"""``Workspace``: found through config.json, made on first use, listed, written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdk.fake_server import FakeServer
from windlass import Experiment, Workspace
from windlass._transport import places
from windlass.errors import NotOffered, UserErrorException


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def configure(place: Path, values: Any) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(values if isinstance(values, str) else json.dumps(values))


@pytest.mark.parametrize("where", ["config.json", ".azureml/config.json", "aml_config/config.json", "../config.json",
                                   "../../.azureml/config.json"])  # fmt: skip
def test_from_config_finds_it_where_v1_did(fake: FakeServer, project: Path, where: str) -> None:
    configure(project / where, {"workspace": "ws"})
    assert Workspace.from_config().name == "ws"


def test_the_given_path_comes_first(fake: FakeServer, project: Path, tmp_path: Path) -> None:
    configure(project / "config.json", {"workspace": "elsewhere"})
    configure(tmp_path / "other" / ".azureml" / "config.json", {"workspace": "ws"})
    configure(tmp_path / "file.json", {"workspace_name": "ws"})
    assert Workspace.from_config(str(tmp_path / "other")).name == "ws"
    assert Workspace.from_config(path=str(tmp_path / "file.json")).name == "ws"
    with pytest.raises(UserErrorException, match="neither a file nor a folder"):
        Workspace.from_config("nowhere")


def test_an_azure_config_makes_a_local_workspace_once(
    home: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    azure = {"subscription_id": "s-1", "resource_group": "rg", "workspace_name": "azure-ws"}
    configure(project / "config.json", azure)
    started: list[FakeServer] = []
    monkeypatch.setattr(
        "windlass._transport.autostart.ensure_server", lambda path: started.append(FakeServer(Path(path)))
    )
    try:
        ws = Workspace.from_config()
        assert (ws.name, ws.subscription_id, ws.resource_group, ws.location) == ("azure-ws", "s-1", "rg", "local")
        assert capsys.readouterr().err == f"windlass: created the local workspace 'azure-ws' in {ws._dir}\n"
        Workspace.from_config()
        assert capsys.readouterr().err == "" and len(started) == 1
        assert "Workspace name: " + ws.name + ws.location + ws.sku
        ws.write_config(str(project / "out"), "mine.json")
        assert json.loads((project / "out/.azureml/mine.json").read_text()) == azure
    finally:
        for server in started:
            server.close()


def test_write_config_is_found_again(ws: Workspace, project: Path) -> None:
    ws.write_config()
    assert json.loads((project / ".azureml/config.json").read_text()) == {"workspace": "ws"}
    assert Workspace.from_config() == ws


@pytest.mark.parametrize(
    ("content", "says"),
    [("{broken", "config.json is not valid JSON"), ("[]", "one JSON object"),
     ('{"workspace": 3}', "workspace must be text"),
     ('{"workspace": ""}', "is empty"), ('{"workspace": "../up"}', "cannot name a workspace")],
)  # fmt: skip
def test_a_corrupt_config_names_itself_and_the_reason(project: Path, content: str, says: str) -> None:
    configure(project / "config.json", content)
    with pytest.raises(UserErrorException, match=says):
        Workspace.from_config()


def test_a_team_server_is_not_offered_yet(project: Path) -> None:
    configure(project / "config.json", {"server": "https://example.test"})
    with pytest.raises(NotOffered, match="team server"):
        Workspace.from_config()


def test_nothing_found_names_the_places(fake: FakeServer, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(project / "config.json", {"model_type": "bert"})  # some other tool's
    with pytest.raises(UserErrorException, match="windlass init") as caught:
        Workspace.from_config()
    for place in (project / "config.json", project / ".azureml/config.json", project.parent / "aml_config/config.json"):
        assert str(place) in str(caught.value)
    monkeypatch.setenv("AZUREML_RUN_ID", "r")
    monkeypatch.setenv("WINDLASS_WORKSPACE_DIR", places.workspace_dir("ws"))
    monkeypatch.setenv("WINDLASS_SPOOL_DIR", "/nowhere")
    assert Workspace.from_config().name == "ws", "inside a job it is the job's"


def test_get_create_and_list(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(Workspace.list("any")) == ["ws"]
    with pytest.raises(UserErrorException, match=r"no workspace 'w2' .*are: ws.*Workspace\.create"):
        Workspace.get("w2", subscription_id="s")
    with pytest.raises(UserErrorException, match="exist_ok=True"):
        Workspace.create("ws")
    assert Workspace.create("ws", exist_ok=True, location="westeurope") == ws
    with pytest.raises(NotOffered, match="key_vault"):
        Workspace.create("w3", key_vault="kv")


def test_a_workspace_says_what_it_holds(ws: Workspace, fake: FakeServer) -> None:
    fake.add_run({"experiment": "digits", "script": "t", "snapshot_id": "s"})
    assert list(ws.experiments) == ["digits"] and isinstance(ws.experiments["digits"], Experiment)
    assert list(ws.compute_targets) == ["local"] and ws.models == {}
    assert ws.get_details()["name"] == "ws" and "ws" in repr(ws) and "<table" in ws._repr_html_()
    assert Experiment.list(ws, "nope") == []


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 129, None, "a/b"])
def test_experiment_names(ws: Workspace, name: Any) -> None:
    with pytest.raises(UserErrorException, match="1 to 128 letters"):
        Experiment(ws, name)
