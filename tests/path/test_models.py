"""Models from files of this machine and from runs, against a real server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from windlass import Dataset, Model, Run
from windlass import Workspace as UserWorkspace
from windlass.errors import (
    ModelNotFoundException,
    ModelPathNotFoundException,
    NotOffered,
    UserErrorException,
)
from windlass.resource_configuration import ResourceConfiguration
from windlassd.testing.harness import Workspace

_SERIALIZED = [
    "createdTime",
    "createdBy",
    "description",
    "id",
    "mimeType",
    "name",
    "framework",
    "frameworkVersion",
    "tags",
    "properties",
    "unpack",
    "url",
    "version",
    "experimentName",
    "runId",
    "runDetails",
    "datasets",
    "resourceConfiguration",
    "sampleInputDatasetId",
    "sampleOutputDatasetId",
]


@pytest.fixture
def ws(shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserWorkspace:
    monkeypatch.chdir(tmp_path)
    return UserWorkspace._at(shared.dir)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    folder = tmp_path / "net"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a")
    (folder / "sub" / "b.bin").write_bytes(b"b" * 3)
    (folder / "notes.txt").write_text("later")
    return folder


def test_a_folder_goes_up_and_comes_back(ws: UserWorkspace, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model.register(
        ws, str(net), "net", tags={"stage": 1}, properties={"origin": "lab"}, description="words",
        model_framework=Model.Framework.PYTORCH, model_framework_version="1.13",
        resource_configuration=ResourceConfiguration(cpu=2, memory_in_gb=0.5),
    )  # fmt: skip
    assert capsys.readouterr().out == "Registering model net\n"
    assert (model.id, model.tags, model.properties, model.size_bytes) == ("net:1", {"stage": "1"}, {"origin": "lab"}, 9)
    assert model.resource_configuration is not None and model.resource_configuration.cpu == 2
    got = Path(model.download("got"))
    assert got.name == "net" and (got / "sub/b.bin").read_bytes() == b"bbb" and (got / "notes.txt").exists()
    assert list(model.serialize()) == _SERIALIZED and json.dumps(model.serialize())
    assert Model.deserialize(ws, model.serialize()).sha256 == model.sha256
    part = Model.register(ws, net, "net", child_paths=["sub", "a.bin"])
    assert [file["path"] for file in part._data["files"]] == ["net/a.bin", "net/sub/b.bin"] and part.version == 2
    assert part.created_by and part.run is None and part.experiment_name is None


def test_what_cannot_be_a_model(ws: UserWorkspace, net: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (net / "loop").symlink_to(net, target_is_directory=True)
    for path, child, problem, says in (
        ("nope", None, ModelPathNotFoundException, "no such file or folder"),
        ("empty", None, UserErrorException, "holds no file"),
        ("net", None, UserErrorException, "link to a folder"),
        ("net", ["../empty"], UserErrorException, "cannot name"),
        ("net", ["absent"], ModelPathNotFoundException, "no 'absent'"),
        ("net/a.bin", ["a"], UserErrorException, "is a file"),
    ):
        with pytest.raises(problem, match=says):
            Model.register(ws, path, "bad", child_paths=child)
    for values, says in (
        ({"tags": ["x"]}, "tags must be a dictionary"), ({"datasets": [1]}, "purpose, dataset"),
        ({"datasets": [("training", 5)]}, "no registered dataset"), ({"model_name": "a b"}, "cannot name a model"),
        ({"resource_configuration": 3}, "ResourceConfiguration"),
    ):  # fmt: skip
        with pytest.raises(UserErrorException, match=says):
            Model.register(ws, "net/a.bin", **{"model_name": "bad", **values})
    assert Model.list(ws, "bad") == []
    with pytest.raises(NotOffered):
        Model.deploy(ws, "service", [])


def test_tags_change_and_properties_do_not(ws: UserWorkspace, net: Path) -> None:
    model = Model.register(ws, net / "a.bin", "tagged", tags={"a": "1", "b": "2"}, properties={"p": "1"})
    model.add_tags({"c": "3"})
    model.remove_tags(["a"])
    model.add_properties({"q": "2"})
    model.update(description="new")
    assert (model.tags, model.properties, model.description) == ({"b": "2", "c": "3"}, {"p": "1", "q": "2"}, "new")
    model.update_tags_properties(add_tags={"b": "4"}, remove_tags=["c"], add_properties={"r": "3"})
    assert Model(ws, "tagged").tags == {"b": "4"} and Model(ws, "tagged").properties["r"] == "3"
    model.update(tags={"only": "this"})
    assert Model(ws, "tagged").tags == {"only": "this"}
    with pytest.raises(UserErrorException, match="properties do not change"):
        model.add_properties({"p": "9"})


def test_filters_and_choices(ws: UserWorkspace, net: Path) -> None:
    for name, tags, framework in (("f1", {"k": "1"}, "Onnx"), ("f1", {"k": "2"}, None), ("f2", {"k": "1"}, None)):
        Model.register(ws, net / "a.bin", name, tags=tags, properties={"set": "f"}, model_framework=framework)

    def ids(**filters: Any) -> list[str]:
        return [model.id for model in Model.list(ws, properties=[["set", "f"]], **filters)]

    assert ids() == ["f2:1", "f1:2", "f1:1"] and ids(latest=True) == ["f2:1", "f1:2"]
    assert ids(tags=[["k", "1"]]) == ["f2:1", "f1:1"] and ids(tags=["absent"]) == []
    assert ids(name="f1", latest=True) == ["f1:2"] and ids(model_framework="Onnx") == ["f1:1"]
    assert Model(ws, "f1").version == 2 and Model(ws, id="f1:1").model_framework == "Onnx"
    assert Model(ws, "f1", tags=[["k", "1"]]).version == 1
    with pytest.raises(ModelNotFoundException, match="Did you mean 'f2' or 'f1'"):
        Model(ws, "f")
    with pytest.raises(ModelNotFoundException, match="it has 1, 2"):
        Model(ws, "f1", version=7)


def test_deleting_frees_what_nothing_else_holds(ws: UserWorkspace, shared: Workspace, tmp_path: Path) -> None:
    contents = {"own": b"only this model", "model": b"two models", "snapshot": b"also in a snapshot"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    shared.snapshot({"train.py": contents["snapshot"]})
    first, second = Model.register(ws, "model", "held"), Model.register(ws, "model", "held")
    other = {name: Model.register(ws, name, name) for name in ("own", "snapshot")}
    for model in (first, *other.values()):
        model.delete()

    def stored(name: str) -> bool:
        digest = hashlib.sha256(contents[name]).hexdigest()
        return not shared.client.post("/v1/blobs/missing", {"hashes": [digest]})["missing"]

    assert [stored(name) for name in ("own", "model", "snapshot")] == [False, True, True]
    second.delete()
    assert not stored("model")
    with pytest.raises(ModelNotFoundException):
        second.delete()
    assert Model.register(ws, "model", "held").version == 3, "a version is not given twice"


def test_a_big_file_goes_in_pieces_and_is_resumed(
    ws: UserWorkspace, shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from windlass import _handover, _upload

    monkeypatch.setattr(_handover, "_handed", lambda file: None)  # as of a client whose files the server does not see
    monkeypatch.setattr(_upload, "_PIECE_BYTES", 1000)
    content = bytes(range(256)) * 20
    (tmp_path / "big").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    begun = _upload.LocalFile("big", str(tmp_path / "big"), digest, len(content))
    assert _upload._put(shared.client, begun, 0, content[:1500]) == {"offset": 1500, "stored": False}
    assert _upload._put(shared.client, begun, 0, content[:1500])["offset"] == 1500, "a repeated piece changes nothing"
    sent: list[int] = []
    put = _upload._put
    monkeypatch.setattr(_upload, "_put", lambda c, f, o, p: (sent.append(o), put(c, f, o, p))[1])
    assert Path(Model.register(ws, "big", "big").download("got")).read_bytes() == content
    assert sent == [0, 1500, 2500, 3500, 4500]
    wrong = begun._replace(sha256="0" * 64)
    with pytest.raises(Exception, match=r"SHA-256|hash"):
        _upload._send_from(shared.client, wrong, 0)


def test_a_repeated_registration_makes_one_version(ws: UserWorkspace, shared: Workspace, net: Path) -> None:
    model = Model.register(ws, net / "a.bin", "once")
    again = shared.client.post("/v1/models", {**model._data, "request_id": model._data["request_id"]})
    assert again["version"] == 1 and len(Model.list(ws, "once")) == 1


_CROWD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from windlass import Model, Workspace
ws = Workspace._at(sys.argv[1])
with ThreadPoolExecutor(25) as pool:
    versions = pool.map(lambda n: Model.register(ws, sys.argv[2], "crowd", tags={"n": n}).version, range(25))
    print("versions", *versions)
"""


def test_fifty_registrations_at_once(ws: UserWorkspace, shared: Workspace, net: Path) -> None:
    command = [sys.executable, "-c", _CROWD, shared.dir, str(net / "a.bin")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].splitlines()[-1].split() for process in processes]
    assert sorted(int(version) for words in said for version in words[1:]) == list(range(1, 51))
    assert sorted(model.version for model in Model.list(ws, "crowd")) == list(range(1, 51))


def test_lineage_of_a_run_and_paths_inside_it(ws: UserWorkspace, shared: Workspace) -> None:
    run_id = shared.submit(
        """
        from pathlib import Path
        from windlass import Model, Run
        run = Run.get_context()
        Path("outputs/net").mkdir()
        Path("outputs/net/w").write_text("weights")
        Path("local.txt").write_text("from the job")
        run.upload_file("outputs/w", "outputs/net/w")
        ws = run.experiment.workspace
        Model.register(ws, "local.txt", "injob")
        print("path", Model.get_model_path("injob"), open(Model.get_model_path("injob")).read())
        """
    )
    record = shared.wait(run_id)
    assert record.status.value == "Completed", shared.log(run_id)
    assert "path azureml-models/injob/1/local.txt from the job" in shared.log(run_id)
    inside = Model(ws, "injob")
    assert inside.run_id == run_id and inside._data["snapshot_id"] == record.spec.snapshot_id
    made = Run.get(ws, run_id).register_model("made", "outputs/w", description="d", model_framework="Custom")
    assert made.run == Run.get(ws, run_id) and made.experiment_name == "test" and made.description == "d"
    assert made._data["environment_key"] == record.environment["key"]
    assert [m.id for m in Model.list(ws, run_id=run_id)] == ["made:1", "injob:1"]


def test_the_datasets_a_model_was_made_with(ws: UserWorkspace, net: Path) -> None:
    files = Dataset.File.from_files(path=str(net), validate=False).register(ws, "digits-data")
    with pytest.raises(UserErrorException, match="no registered dataset"):
        Model.register(ws, net / "a.bin", "fed", datasets=[("training", Dataset.File.from_files(path=str(net)))])
    model = Model.register(ws, net / "a.bin", "fed", datasets=[("training", files)], sample_input_dataset=files)
    assert [found.name for found in model.datasets["training"]] == ["digits-data"]
    assert model.sample_input_dataset.id == files.id and model.sample_output_dataset is None
    model.add_dataset_references([("test", files)])
    model.update(sample_output_dataset=files)
    assert sorted(Model(ws, "fed").datasets) == ["test", "training"]
    assert Model(ws, "fed").sample_output_dataset.id == files.id
    assert [m.id for m in Model.list(ws, dataset_id=files.id)] == ["fed:1"]


def test_the_path_outside_a_job_and_in_a_service(
    ws: UserWorkspace, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Model.register(ws, net, "placed")
    Model.register(ws, net / "a.bin", "placed")
    ws.write_config()
    assert Model.get_model_path("placed") == "azureml-models/placed/2/a.bin"
    assert Path(Model.get_model_path("placed", version=1), "sub/b.bin").read_bytes() == b"bbb"
    (tmp_path / ".azureml/config.json").unlink()
    assert Model.get_model_path("placed") == "azureml-models/placed/2/a.bin", "without a workspace: what is here"
    assert Model.get_model_path("placed", _workspace=ws) == "azureml-models/placed/2/a.bin"
    for served in (tmp_path / "azureml-models", tmp_path / "azureml-models/placed/2"):
        monkeypatch.setenv("AZUREML_MODEL_DIR", str(served))
        assert Model.get_model_path("placed") == str(tmp_path / "azureml-models/placed/2/a.bin")
    with pytest.raises(ModelNotFoundException, match="AZUREML_MODEL_DIR"):
        Model.get_model_path("other")
