"""Data with real jobs: datastores used in place, copied before and after, datasets as inputs and outputs."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from windlass import Dataset, Datastore, Environment, Estimator, Experiment, Run, RunConfiguration, ScriptRunConfig
from windlass import Workspace as UserWorkspace
from windlass.data_reference import DataPath
from windlass.errors import ActivityFailedException, NotOffered, UserErrorException
from windlass.output_dataset_config import OutputFileDatasetConfig
from windlass.specs._codec import to_wire
from windlass.specs.data import DataPlace, DataSpec
from windlassd.testing.harness import Workspace, kill

SHOW = """
import os, sys
for argument in sys.argv[1:]:
    print(argument, os.path.isdir(argument), os.path.islink(argument))
"""


@pytest.fixture
def ws(shared: Workspace) -> UserWorkspace:
    return UserWorkspace._at(shared.dir)


def here() -> Environment:
    environment = Environment("here")
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = sys.executable
    return environment


def job(tmp_path: Path, script: str, *arguments: Any) -> ScriptRunConfig:
    folder = tmp_path / "source"
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(script)
    return ScriptRunConfig(str(folder), "train.py", list(arguments), environment=here())


def log_of(run: Run) -> str:
    return str(run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"])


def mnist(tmp_path: Path) -> Path:
    folder = tmp_path / "mnist"
    (folder / "sub").mkdir(parents=True)
    with gzip.open(folder / "train.gz", "wb") as f:
        f.write(b"\0" * 1000)
    (folder / "sub" / "labels.txt").write_text("1\n2\n")
    return folder


def test_v1s_way_to_bring_data_to_a_script(
    ws: UserWorkspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ds = ws.get_default_datastore()
    assert ds.name == "workspaceblobstore"
    ds.upload(src_dir=str(mnist(tmp_path)), target_path="mnist", overwrite=True, show_progress=True)
    said = capsys.readouterr().out
    assert said.startswith("Uploading an estimated of 2 files\n") and said.endswith("Uploaded 2 files\n")
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(
        """
import os, sys
folder = sys.argv[sys.argv.index("--data-folder") + 1]
print(sorted(os.listdir(os.path.join(folder, "mnist"))))
print(os.environ["AZUREML_DATAREFERENCE_workspaceblobstore"] == folder, sys.argv[-1] == folder)
"""
    )
    estimator = Estimator(
        source_directory=str(source), script_params={"--data-folder": ds.as_mount(), "--again": ds},
        compute_target="local", entry_script="train.py", user_managed=True,
    )  # fmt: skip
    run = Experiment(ws, "data").submit(estimator)
    details = run.wait_for_completion()
    assert log_of(run) == "['sub', 'train.gz']\nTrue True\n"
    assert details["runDefinition"]["arguments"][1] == "$AZUREML_DATAREFERENCE_workspaceblobstore"
    assert details["runDefinition"]["dataReferences"]["workspaceblobstore"]["mode"] == "mount"


def test_a_repeated_upload_skips_what_is_there(
    ws: UserWorkspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ds, folder = ws.get_default_datastore(), mnist(tmp_path)
    ds.upload_files([str(folder / "train.gz")], target_path="again", show_progress=False)
    assert capsys.readouterr().out == ""
    reference = ds.upload(str(folder), "again")
    said = capsys.readouterr().out
    assert "Target already exists. Skipping upload for again/train.gz" in said
    assert said.endswith("Uploaded 1 files\n") and reference.path_on_datastore == "again"
    assert ds.download(str(tmp_path / "down"), prefix="again", show_progress=False) == 2
    assert (tmp_path / "down" / "again" / "sub" / "labels.txt").read_text() == "1\n2\n"
    (tmp_path / "down" / "again" / "train.gz").write_text("mine")
    assert ds.download(str(tmp_path / "down"), prefix="again", show_progress=False) == 0
    assert (tmp_path / "down" / "again" / "train.gz").read_text() == "mine"
    assert ds.download(str(tmp_path / "down"), prefix="again", overwrite=True, show_progress=False) == 2
    assert (tmp_path / "down" / "again" / "train.gz").read_bytes() == (folder / "train.gz").read_bytes()


def test_downloads_are_copies_and_uploads_come_back(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    ds.upload(str(mnist(tmp_path)), "copies", show_progress=False)
    script = """
import os, sys
copied, wrote = sys.argv[1:]
open(os.path.join(copied, "train.gz"), "wb").write(b"changed")
print(sorted(os.listdir(copied)), os.path.relpath(copied), os.path.relpath(wrote))
os.makedirs(os.path.join(wrote, "deep"))
open(os.path.join(wrote, "deep", "model.bin"), "w").write("weights")
"""
    results = ds.path("results/one").as_upload(path_on_compute="outputs/results")
    run = Experiment(ws, "data").submit(
        job(tmp_path, script, ds.path("copies").as_download(path_on_compute="data"), results)
    )
    run.wait_for_completion()
    assert log_of(run) == "['sub', 'train.gz'] data outputs/results\n"
    assert Path(ds.root, "copies", "train.gz").read_bytes() != b"changed"
    assert Path(ds.root, "results", "one", "deep", "model.bin").read_text() == "weights"
    assert "outputs/results/deep/model.bin" in run.get_file_names()


def test_an_upload_that_fails_fails_the_run_and_says_so(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    (tmp_path / "model.bin").write_text("old")
    ds.upload_files([str(tmp_path / "model.bin")], target_path="taken", show_progress=False)
    script = "import sys, os; open(os.path.join(sys.argv[1], 'model.bin'), 'w').write('new weights')"
    run = Experiment(ws, "data").submit(job(tmp_path, script, ds.path("taken").as_upload()))
    with pytest.raises(ActivityFailedException, match=r"could not be copied to its datastore.*overwrite=True"):
        run.wait_for_completion()
    assert run.get_details()["error"]["error"]["code"] == "data_not_kept"
    assert Path(ds.root, "taken", "model.bin").read_text() == "old"
    run = Experiment(ws, "data").submit(job(tmp_path, script, ds.path("taken").as_upload(overwrite=True)))
    run.wait_for_completion()
    assert Path(ds.root, "taken", "model.bin").read_text() == "new weights"


def test_data_that_is_not_there_fails_before_the_script_starts(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    run = Experiment(ws, "data").submit(job(tmp_path, SHOW, ds.path("nowhere").as_download()))
    with pytest.raises(ActivityFailedException, match=r"has nothing at 'nowhere'"):
        run.wait_for_completion()


def test_a_folder_of_this_machine_is_a_datastore_used_in_place(ws: UserWorkspace, tmp_path: Path) -> None:
    folder = mnist(tmp_path)
    mine = Datastore.register_local(ws, "mine", str(folder))
    assert set(ws.datastores) >= {"workspaceblobstore", "workspacefilestore", "mine"}
    run = Experiment(ws, "data").submit(
        job(tmp_path, SHOW, DataPath(mine, "sub"), mine.path("train.gz", "images").as_mount(), mine)
    )
    run.wait_for_completion()
    assert log_of(run) == f"{folder}/sub True False\n{folder}/train.gz False False\n{folder} True False\n"
    mine.unregister()
    assert folder.exists()
    with pytest.raises(UserErrorException, match="no datastore 'mine'"):
        Experiment(ws, "data").submit(job(tmp_path, SHOW, mine))


def test_a_link_that_leads_out_of_a_datastore_is_refused(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    os.makedirs(ds.root, exist_ok=True)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hidden")
    os.symlink(secret, os.path.join(ds.root, "way-out"))
    try:
        run = Experiment(ws, "data").submit(job(tmp_path, SHOW, ds.path("way-out").as_mount()))
        with pytest.raises(ActivityFailedException, match="leads out of"):
            run.wait_for_completion()
        with pytest.raises(UserErrorException, match="leads out of"):
            ds._workspace._client.open("GET", f"/v1/datastores/{ds.name}/files/way-out/key")
        assert ds.download(str(tmp_path / "down"), prefix="way-out", show_progress=False) == 0
        with pytest.raises(UserErrorException, match="leads out of"):
            ds.upload(str(mnist(tmp_path)), "way-out", show_progress=False)
        assert sorted(os.listdir(secret)) == ["key"]
    finally:
        os.unlink(os.path.join(ds.root, "way-out"))


@pytest.mark.parametrize("path", ["../../windlass.db", "a/../../../x", "..", "a\0b"])
def test_paths_that_lead_out_are_refused_by_the_server_too(ws: UserWorkspace, path: str) -> None:
    from urllib.parse import quote

    with pytest.raises(UserErrorException):
        ws._client.call("PUT", f"/v1/datastores/workspaceblobstore/files/{quote(path, safe='')}", body=b"x")
    with pytest.raises(UserErrorException):
        ws._client.get("/v1/datastores/workspaceblobstore/files", prefix=path)


def test_a_script_cannot_bring_other_files_to_a_datastore_by_a_link(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    script = "import os, sys; os.symlink('/etc/passwd', os.path.join(sys.argv[1], 'x'))"
    run = Experiment(ws, "data").submit(job(tmp_path, script, ds.path("linked").as_upload()))
    with pytest.raises(ActivityFailedException, match="leads out of the script's working folder"):
        run.wait_for_completion()
    assert not os.path.exists(os.path.join(ds.root, "linked", "x"))


def test_datasets_are_inputs(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    ds.upload(str(mnist(tmp_path)), "set", show_progress=False)
    whole = Dataset.File.from_files((ds, "set")).register(ws, "mnist", "digits", {"kind": "test"})
    texts = Dataset.File.from_files(path=[(ds, "set/**/*.txt"), (ds, "set/train.gz")])
    one = Dataset.File.from_files(str(tmp_path / "mnist" / "train.gz"))
    script = """
import os, sys
from azureml.core import Run
run = Run.get_context()
whole, copied, linked, one = sys.argv[1:]
print(run.input_datasets["mnist"] == whole == os.environ["mnist"], sorted(os.listdir(whole)))
print(run.input_datasets["copy"] == copied, sorted(os.listdir(copied)), os.path.islink(copied))
print(sorted(os.path.join(folder, name)[len(linked):] for folder, _, names in os.walk(linked) for name in names))
print(os.path.basename(one), os.path.isfile(one))
print(sorted(run.input_datasets))
"""
    run = Experiment(ws, "data").submit(
        job(
            tmp_path,
            script,
            whole.as_named_input("mnist").as_mount(),
            whole.as_named_input("copy").as_download(),
            texts.as_named_input("texts").as_mount(),
            one.as_mount(),
        )
    )
    details = run.wait_for_completion()
    lines = log_of(run).splitlines()
    assert lines[:3] == [
        "True ['sub', 'train.gz']",
        "True ['sub', 'train.gz'] False",
        "['/sub/labels.txt', '/train.gz']",
    ]
    assert lines[3] == "train.gz True" and "'mnist'" in lines[4]
    assert details["runDefinition"]["arguments"][0] == "DatasetConsumptionConfig:mnist"
    named = {entry["consumptionDetails"]["inputName"]: entry for entry in details["inputDatasets"]}
    assert named["mnist"]["dataset"]["id"] == whole.id
    assert named["texts"]["consumptionDetails"]["mechanism"] == "Mount"
    assert run.input_datasets["mnist"].name == "mnist"
    assert run.input_datasets["texts"].to_path() == ["/sub/labels.txt", "/train.gz"]


def test_a_table_reaches_the_script_as_a_dataset(ws: UserWorkspace, tmp_path: Path) -> None:
    (tmp_path / "iris.csv").write_text("length,kind\n1.5,a\n2.5,b\n")
    table = Dataset.Tabular.from_delimited_files(str(tmp_path / "iris.csv"))
    script = """
import sys
from azureml.core import Dataset, Run
run = Run.get_context()
table = run.input_datasets["iris"]
print(type(table).__name__, table._definition()["places"][0]["path"], len(sys.argv[1]))
print(Dataset.get_by_id(run.experiment.workspace, sys.argv[1]) == table)
"""
    run = Experiment(ws, "data").submit(job(tmp_path, script, table.as_named_input("iris")))
    run.wait_for_completion()
    assert log_of(run).splitlines() == [f"TabularDataset {tmp_path}/iris.csv 36", "True"]


def test_outputs_become_datasets_when_the_run_completes(ws: UserWorkspace, tmp_path: Path) -> None:
    script = """
import os, sys
for place in sys.argv[1:3]:
    open(os.path.join(place, "part.csv"), "w").write("a,b\\n1,2\\n")
    open(os.path.join(place, "note.txt"), "w").write("x")
sys.exit(int(sys.argv[3]))
"""
    mounted = OutputFileDatasetConfig("prepared").register_on_complete("prepared", tags={"by": "test"})
    copied = OutputFileDatasetConfig("copied", (ws.get_default_datastore(), "copied/{run-id}")).as_upload(
        source_globs=["*.csv"]
    )
    failed = Experiment(ws, "data").submit(job(tmp_path, script, mounted, copied, 1))
    with pytest.raises(ActivityFailedException):
        failed.wait_for_completion()
    assert "prepared" not in ws.datasets
    run = Experiment(ws, "data").submit(job(tmp_path, script, mounted, copied, 0))
    run.wait_for_completion()
    made = Dataset.get_by_name(ws, "prepared")
    assert (made.version, made.tags, sorted(made.to_path())) == (1, {"by": "test"}, ["/note.txt", "/part.csv"])
    there = ws.get_default_datastore()._files(f"copied/{run.id}")
    assert [file["path"] for file in there] == [f"copied/{run.id}/part.csv"]


def test_an_input_cannot_take_the_name_of_a_variable(ws: UserWorkspace, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    files = Dataset.File.from_files(str(tmp_path / "x.txt"))
    run = Experiment(ws, "data").submit(job(tmp_path, SHOW, files.as_named_input("PATH").as_mount()))
    with pytest.raises(ActivityFailedException, match="name of an environment variable"):
        run.wait_for_completion()


def test_data_beside_the_arguments(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    ds.upload(str(mnist(tmp_path)), "beside", show_progress=False)
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(
        """
import os, sys
from azureml.core import Run
print(sorted(os.listdir(Run.get_context().input_datasets["images"])))
print(os.environ["AZUREML_DATAREFERENCE_whole"] in sys.argv[1:])
"""
    )
    images = Dataset.File.from_files((ds, "beside")).as_named_input("images").as_mount()
    whole = ds.path("beside", "whole").as_mount()
    estimator = Estimator(
        str(source), entry_script="train.py", user_managed=True, inputs=[images], script_params={"--whole": whole},
    )  # fmt: skip
    run = Experiment(ws, "data").submit(estimator)
    run.wait_for_completion()
    assert log_of(run) == "['sub', 'train.gz']\nTrue\n"
    config = RunConfiguration()
    config.environment = here()
    config.data_references = {"whole": whole.to_config()}
    config.data = {"images": images}
    run = Experiment(ws, "data").submit(
        ScriptRunConfig(str(source), "train.py", ["--whole", str(whole)], run_config=config)
    )
    run.wait_for_completion()
    assert log_of(run) == "['sub', 'train.gz']\nTrue\n"


def test_data_in_a_command(ws: UserWorkspace, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    one = Dataset.File.from_files(str(tmp_path / "x.txt")).as_named_input("one").as_mount()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").write_text("import sys; print(open(sys.argv[1]).read())")
    config = ScriptRunConfig(str(tmp_path / "source"), command=["python", "train.py", one], environment=here())
    run = Experiment(ws, "data").submit(config)
    run.wait_for_completion()
    assert log_of(run) == "x\n"


def test_a_dataset_version_is_found_by_name_version_and_id(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    ds.upload(str(mnist(tmp_path)), "versions", show_progress=False)
    first = Dataset.File.from_files((ds, "versions")).register(ws, "versioned", "first")
    with pytest.raises(UserErrorException, match="create_new_version=True"):
        Dataset.File.from_files((ds, "versions/*.gz")).register(ws, "versioned")
    second = Dataset.File.from_files((ds, "versions/*.gz")).register(ws, "versioned", create_new_version=True)
    assert (first.version, second.version) == (1, 2)
    assert Dataset.get_by_name(ws, "versioned").to_path() == ["/train.gz"]
    assert Dataset.get_by_name(ws, "versioned", version=1).description == "first"
    assert Dataset.get_by_id(ws, first.id) == first and ws.datasets["versioned"].version == 2
    second.add_tags({"a": "b"})
    second.update(description="new", tags={"c": "d"})
    second.remove_tags(["a"])
    found = Dataset.get_by_name(ws, "versioned")
    assert (found.tags, found.description) == ({"c": "d"}, "new")
    found.unregister_all_versions()
    with pytest.raises(UserErrorException, match="no dataset 'versioned'"):
        Dataset.get_by_name(ws, "versioned")
    assert first.download(str(tmp_path / "down")) == [
        str(tmp_path / "down" / n) for n in ("sub/labels.txt", "train.gz")
    ]


def test_the_default_datastore_is_the_users_choice(ws: UserWorkspace, tmp_path: Path) -> None:
    mine = Datastore.register_local(ws, "chosen", str(tmp_path / "made"), create_if_not_exists=True)
    mine.set_as_default()
    assert ws.get_default_datastore().name == "chosen" == Datastore(ws).name
    ws.set_default_datastore("workspaceblobstore")
    assert Datastore.get_default(ws).name == "workspaceblobstore"
    with pytest.raises(UserErrorException, match="workspace's own"):
        Datastore(ws, "workspacefilestore").unregister()
    with pytest.raises(NotOffered, match="register_local"):
        Datastore.register_azure_blob_container(ws, "blob", "container", "account")
    mine.unregister()


def test_a_folder_is_uploaded_and_becomes_a_dataset_in_one_call(ws: UserWorkspace, tmp_path: Path) -> None:
    ds = ws.get_default_datastore()
    made = Dataset.File.upload_directory(str(mnist(tmp_path)), (ds, "uploaded"), "**/*.txt", show_progress=False)
    assert made.to_path() == ["/sub/labels.txt"]
    with made.mount() as mounted:
        assert mounted.mount_point == os.path.join(ds.root, "uploaded")


def test_what_a_script_wrote_is_copied_back_by_the_next_agent(workspace: Workspace) -> None:
    out = DataSpec("out", mode="upload", places=(DataPlace("results", "workspaceblobstore"),))
    run_id = workspace.submit(
        """
        import os, signal, sys
        open(os.path.join(sys.argv[1], "last.ckpt"), "w").write("weights")
        print("wrote", flush=True)
        signal.pause()
        """,
        "$AZUREML_DATAREFERENCE_out",
        data=[to_wire(out)],
    )
    workspace.wait_for_text(run_id, "wrote")
    kill(workspace.agent_pid())
    assert workspace.wait(run_id).reason.code == "agent_lost"  # type: ignore[union-attr]
    kept = workspace.client.open("GET", "/v1/datastores/workspaceblobstore/files/results/last.ckpt")
    assert kept.read() == b"weights"
