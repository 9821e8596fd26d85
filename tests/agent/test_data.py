from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.launch import LaunchSpec
from windlassd.agent import data
from windlassd.blobs.run_folder import RunFolder

LAUNCH = LaunchSpec("run_1", 1, "local-0", 0, "train.py", (), "5" * 64, "/usr/bin/python3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    for name in ("train.csv", "deep/test.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def of(root: Path, path: str = "", **values: object) -> DataSpec:
    return DataSpec(**{"name": "d", "places": (DataPlace(path, "store", str(root)),), **values})  # type: ignore[arg-type]


def ready(folder: RunFolder, *specs: DataSpec) -> data.DataOnNode:
    os.makedirs(folder.work, exist_ok=True)
    return data.prepare(replace(LAUNCH, data=specs), folder, {"PATH": "/bin"})


def test_placeholders_become_paths_wherever_they_stand_in_an_argument(root: Path, folder: RunFolder) -> None:
    found = ready(folder, of(root, kind="input", name="train", dataset={"id": "i"}))
    arguments = ("--x=DatasetConsumptionConfig:train", "DatasetConsumptionConfig:other", "train", "$d")
    assert found.arguments(arguments) == (f"--x={root}", "DatasetConsumptionConfig:other", "train", "$d")
    (text,) = data.DataOnNode(texts={"DatasetConsumptionConfig:x": "a b"}).arguments(
        ["cat DatasetConsumptionConfig:x"], shell=True
    )
    assert text == "cat 'a b'"
    assert found.variables["AZUREML_DATAREFERENCE_train"] == str(root) == found.variables["train"]


@pytest.mark.parametrize("place", ["/etc", "../x", "a/../..", "."])
def test_no_data_goes_out_of_the_working_folder(root: Path, folder: RunFolder, place: str) -> None:
    for mode in ("download", "upload"):
        with pytest.raises(UserErrorException, match="below the script's working folder"):
            ready(folder, of(root, mode=mode, path_on_compute=place))


def test_a_download_leaves_the_source_folders_files_alone(root: Path, folder: RunFolder) -> None:
    os.makedirs(folder.work, exist_ok=True)
    Path(folder.work, "train.csv").write_text("mine")
    with pytest.raises(UserErrorException, match="the source folder has a file there"):
        ready(folder, of(root, "train.csv", mode="download", path_on_compute="train.csv"))
    assert Path(folder.work, "train.csv").read_text() == "mine"
    ready(folder, of(root, "train.csv", mode="download", path_on_compute="train.csv", overwrite=True))
    assert Path(folder.work, "train.csv").read_text() == "train.csv"


def test_a_run_that_is_canceled_meanwhile_copies_no_more(root: Path, folder: RunFolder) -> None:
    os.makedirs(folder.work, exist_ok=True)
    launch = replace(LAUNCH, data=(of(root, mode="download"),))
    answers = iter([False, True])
    found = data.prepare(launch, folder, {}, lambda: next(answers))
    copied = [name for _, _, names in os.walk(found.variables["AZUREML_DATAREFERENCE_d"]) for name in names]
    assert len(copied) == 1


def test_take_and_skip_choose_files(root: Path, folder: RunFolder) -> None:
    steps = {"id": "i", "definition": {"steps": [{"op": "skip", "count": 1}, {"op": "take", "count": 5}]}}
    found = ready(folder, of(root, kind="input", name="some", dataset=steps))
    (name,) = os.listdir(found.variables["some"])
    assert name == "train.csv", "deep/test.csv comes first"


def test_a_store_that_went_away_is_named(root: Path, folder: RunFolder) -> None:
    gone = DataSpec("d", places=(DataPlace("x", "mine", str(root / "nope")),))
    with pytest.raises(UserErrorException, match=r"'mine' cannot be used: its folder .*nope is gone"):
        ready(folder, gone)
    with pytest.raises(UserErrorException, match="not registered any more"):
        ready(folder, DataSpec("d", places=(DataPlace("x", "mine"),)))


def test_copying_back_may_be_repeated(root: Path, folder: RunFolder) -> None:
    spec = of(root, "out", mode="upload")
    launch = replace(LAUNCH, data=(spec,))
    place = Path(ready(folder, spec).variables["AZUREML_DATAREFERENCE_d"])
    (place / "model").write_text("weights")
    assert data.copy_back(launch, folder, True) == [] == data.copy_back(launch, folder, True)
    assert (root / "out" / "model").read_text() == "weights"
    (place / "model").write_text("other weights")
    (problem,) = data.copy_back(launch, folder, True)
    assert "exists with other content" in problem and (root / "out" / "model").read_text() == "weights"


def test_a_script_that_wrote_nothing_is_told_so_when_it_ended_well(root: Path, folder: RunFolder) -> None:
    launch = replace(LAUNCH, data=(of(root, "out", mode="upload", path_on_compute="outputs/model.bin"),))
    ready(folder, *launch.data)
    assert data.copy_back(launch, folder, ended_well=False) == []
    (problem,) = data.copy_back(launch, folder, ended_well=True)
    assert "wrote nothing to outputs/model.bin" in problem
