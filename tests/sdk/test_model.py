"""Models: registered from a run, found again, downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.fake_server import FakeServer
from windlass import Model, Run, Workspace
from windlass.errors import ModelNotFoundException, ModelPathNotFoundException, NotOffered, UserErrorException


@pytest.fixture(autouse=True)
def here(fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fake.files = {"outputs/model.pkl": b"pickle", "outputs/net/a.bin": b"a", "outputs/net/sub/b.bin": b"b"}
    return tmp_path


def test_a_file_and_a_folder(run: Run, ws: Workspace, here: Path) -> None:
    first = run.register_model(
        "digits", "outputs/model.pkl", tags={"k": 1}, model_framework=Model.Framework.SCIKITLEARN
    )
    second = run.register_model(model_name="digits", model_path="./outputs/net/")
    assert (first.version, second.version, first.id) == (1, 2, "digits:1")
    assert first.tags == {"k": "1"} and first.model_framework == "ScikitLearn" and first.run == run
    assert Path(first.download("got")).read_bytes() == b"pickle" and (here / "got/model.pkl").exists()
    folder = Path(second.download())
    assert folder == here / "net" and (folder / "sub/b.bin").read_bytes() == b"b"
    with pytest.raises(UserErrorException, match="exist_ok=True"):
        first.download("got")
    first.download("got", exist_ok=True)
    with pytest.raises(ModelPathNotFoundException, match="nothing at 'outputs/nope'"):
        run.register_model("x", "outputs/nope")
    with pytest.raises(UserErrorException, match="purpose, dataset"):
        run.register_model("x", "outputs/model.pkl", datasets=[1])


def test_finding_models(run: Run, ws: Workspace, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    for tags in ({"stage": "old"}, {"stage": "new"}):
        run.register_model("digits", "outputs/model.pkl", tags=tags)
    run.register_model("other", "outputs/model.pkl")
    assert Model(ws, "digits").version == 2 and Model(ws, id="digits:1").tags == {"stage": "old"}
    assert Model(ws, "digits", tags=[["stage", "old"]]).version == 1
    assert [m.version for m in Model.list(ws, name="digits")] == [2, 1]
    assert sorted(ws.models) == ["digits", "other"] and ws.models["digits"].version == 2
    for missing in ({"name": "nope"}, {"name": "digits", "version": 9}, {"name": "digits", "tags": ["absent"]}):
        with pytest.raises(ModelNotFoundException):
            Model(ws, **missing)
    ws.write_config()
    path = Model.get_model_path("digits")
    assert path == "azureml-models/digits/2/model.pkl" and Path(path).read_bytes() == b"pickle"
    assert Model.get_model_path("digits") == path
    assert Model(ws, "digits").serialize()["runId"] == run.id
    with pytest.raises(NotOffered, match=r"Model.deploy"):
        Model.deploy(ws, "service", [])
