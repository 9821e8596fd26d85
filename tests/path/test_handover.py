"""Files of this machine go up by their paths, many in one call; as octets where the server does not see them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass import Experiment, Model, Run, _handover
from windlass import Workspace as UserWorkspace
from windlass._transport.client import Client
from windlass.errors import UserErrorException
from windlassd.testing.harness import Workspace

NAMES = ("a.txt", "empty", "sub/ü b.bin")


@pytest.fixture
def ws(shared: Workspace) -> UserWorkspace:
    shared.client.get("/v1/server")
    return UserWorkspace.get("test")


@pytest.fixture
def run(ws: UserWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    begun = Experiment(ws, "handover").start_logging(snapshot_directory=None)
    yield begun
    begun.complete()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "net" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "net" / name).write_bytes(b"" if name == "empty" else name.encode() * 1000)
    return tmp_path / "net"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    call = Client.call

    def noted(self: Client, method: str, path: str, **given: Any) -> Any:
        made.append(f"{method} {path.rsplit('/', 1)[-1] if method == 'POST' else 'octets'}")
        return call(self, method, path, **given)

    monkeypatch.setattr(Client, "call", noted)
    return made


def expected(folder: Path) -> dict[str, Any]:
    contents = {name: (folder / name).read_bytes() for name in NAMES}
    return {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in contents.items()}


def told(files: list[dict[str, Any]], cut: int) -> dict[str, Any]:
    return {file["path"][cut:]: (file["size"], file["sha256"]) for file in files}


def test_a_folder_is_kept_with_one_call(run: Run, folder: Path, tmp_path: Path, calls: list[str]) -> None:
    kept = run.upload_folder("kept", str(folder))
    assert calls == ["POST copies"]
    assert told(kept, len("kept/")) == expected(folder)
    run.download_files("kept/", str(tmp_path / "back"), append_prefix=False)
    assert {name: (tmp_path / "back" / name).read_bytes() for name in NAMES} == {
        name: (folder / name).read_bytes() for name in NAMES
    }


def test_what_the_server_does_not_see_goes_as_octets(
    run: Run, ws: UserWorkspace, folder: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = _handover._handed
    monkeypatch.setattr(_handover, "_handed", lambda file: dict(handed(file) or {}, inode=1))
    assert told(run.upload_folder("kept", str(folder)), len("kept/")) == expected(folder)
    assert calls == ["POST copies", *["PUT octets"] * len(NAMES)]
    store = ws.get_default_datastore()
    store.upload(str(folder), "octets", show_progress=False)
    assert {file["path"] for file in store._files("octets/")} == {f"octets/{name}" for name in NAMES}
    model = Model.register(ws, str(folder), "octets")
    assert told(model._data["files"], len("net/")) == expected(folder)


def test_a_model_and_a_datastore_take_files_by_their_paths(ws: UserWorkspace, folder: Path, calls: list[str]) -> None:
    store = ws.get_default_datastore()
    store.upload(str(folder), "copies", show_progress=False)
    assert "PUT octets" not in calls and calls.count("POST copies") == 1
    assert {(file["path"], file["size"]) for file in store._files("copies/")} == {
        (f"copies/{name}", size) for name, (size, _) in expected(folder).items()
    }
    calls.clear()
    model = Model.register(ws, str(folder), "copies")
    assert calls == ["POST blob-copies", "POST models"]
    assert told(model._data["files"], len("net/")) == expected(folder)


def test_a_refused_name_is_named_and_the_others_are_kept(run: Run, folder: Path) -> None:
    with pytest.raises(UserErrorException, match="system log's name"):
        run.upload_files(["good", "azureml-logs/evil.txt"], [str(folder / "a.txt"), str(folder / "a.txt")])
    assert "good" in run.get_file_names() and "azureml-logs/evil.txt" not in run.get_file_names()


def test_a_file_that_is_not_there_is_named_before_anything_is_kept(run: Run, folder: Path) -> None:
    with pytest.raises(UserErrorException, match=r"absent.*cannot be uploaded"):
        run.upload_files(["first", "second"], [str(folder / "a.txt"), str(folder / "absent")])
    assert "first" not in run.get_file_names()
