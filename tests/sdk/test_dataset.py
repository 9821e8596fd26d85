"""Datasets of this machine's files; those in datastores are in tests/path/test_data.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from windlass import Dataset
from windlass.abstract_dataset import AbstractDataset
from windlass.data_reference import DataPath, DataReference
from windlass.dataset_consumption_config import DatasetConsumptionConfig
from windlass.errors import NotOffered, UserErrorException


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt", "deep/c.csv"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    return tmp_path / "data"


class Store:
    """As much of a datastore as a reference needs."""

    name = "store"
    datastore_type = "Local"
    workspace: Any = None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ["/a.txt", "/b.txt", "/deep/c.csv"]),
        ("*.txt", ["/a.txt", "/b.txt"]),
        ("**/*.csv", ["/deep/c.csv"]),
        ("a.txt", ["/a.txt"]),
        (["deep/*", "a.txt"], ["/deep/c.csv", "/a.txt"]),
    ],
)
def test_files_by_path_and_pattern(folder: Path, path: Any, expected: list[str]) -> None:
    given = [str(folder / p) for p in path] if isinstance(path, list) else str(folder / path)
    assert Dataset.File.from_files(given).to_path() == expected


def test_a_path_without_files_is_told_at_once(folder: Path) -> None:
    with pytest.raises(UserErrorException, match=r"no file at .*\*\.png.*validate=False"):
        Dataset.File.from_files(str(folder / "*.png"))
    assert Dataset.File.from_files(str(folder / "*.png"), validate=False).to_path() == []
    with pytest.raises(NotOffered, match="Download the file"):
        Dataset.File.from_files("https://example.org/a.csv")
    for wrong in (3, [], (1, 2), None):
        with pytest.raises(UserErrorException):
            Dataset.File.from_files(wrong)


def test_download_and_mount(folder: Path, tmp_path: Path) -> None:
    files = Dataset.File.from_files(str(folder))
    target = tmp_path / "down"
    assert files.download(str(target)) == [str(target / n) for n in ("a.txt", "b.txt", "deep/c.csv")]
    with pytest.raises(UserErrorException, match="overwrite=True"):
        files.download(str(target))
    assert len(files.skip(1).take(1).download(str(target), overwrite=True)) == 1
    with files.mount() as mounted:
        assert mounted.mount_point == str(folder), "in place"
    with files.take(1).mount(str(tmp_path / "here")) as mounted:
        assert os.listdir(mounted.mount_point) == ["a.txt"]
    assert not (tmp_path / "here").exists() and (folder / "a.txt").exists()


def test_a_split_has_every_file_once_and_is_the_same_again(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:02d}").write_text("")
    files = Dataset.File.from_files(str(tmp_path))
    first, second = files.random_split(0.7, seed=3)
    assert 50 < len(first.to_path()) < 90
    assert sorted(first.to_path() + second.to_path()) == files.to_path()
    assert files.random_split(0.7, seed=3)[0].to_path() == first.to_path()
    drawn, rest = files.random_split(0.5)
    assert not set(drawn.to_path()) & set(rest.to_path())
    with pytest.raises(UserErrorException, match="from 0 to 1"):
        files.take_sample(70)


def test_inputs_have_names_that_variables_can_have(folder: Path) -> None:
    files = Dataset.File.from_files(str(folder))
    for name in ("", "a b", "1st", "a-b", None):
        with pytest.raises(UserErrorException, match="cannot name an input"):
            files.as_named_input(name)  # type: ignore[arg-type]
    named = files.as_named_input("train").as_download(path_on_compute="data")
    assert str(named) == "DatasetConsumptionConfig:train"
    assert (named.mode, named._data().path_on_compute) == ("download", "data")
    assert str(files.as_mount()).startswith("DatasetConsumptionConfig:input_")
    with pytest.raises(NotOffered, match="relative to the script's folder"):
        files.as_mount("/tmp/data")._data()
    table = Dataset.Tabular.from_delimited_files(str(folder / "deep"))
    with pytest.raises(UserErrorException, match="tabular dataset is no folder"):
        table.as_named_input("t").as_mount()
    assert table.as_named_input("t")._data().mode == "direct"


def test_equal_definitions_are_the_same_dataset(folder: Path) -> None:
    one, same = (Dataset.File.from_files(str(folder)) for _ in range(2))
    assert one == same and one.take(1) != one and one.id is None
    with pytest.raises(UserErrorException, match="registered dataset"):
        one.add_tags({"a": "b"})
    with pytest.raises(UserErrorException, match="Make a dataset with"):
        AbstractDataset()


def test_references() -> None:
    store: Any = Store()
    whole = DataReference(store)
    assert str(whole) == "$AZUREML_DATAREFERENCE_store"
    below = whole.path("a/b").path("./c/", "named").as_download("data", overwrite=True)
    assert (below.path_on_datastore, below.data_reference_name, below.mode) == ("a/b/c", "named", "download")
    assert below._data().overwrite and below._data().places[0].datastore == "store"
    assert whole.path("a").data_reference_name == whole.path("a/").data_reference_name != "store"
    assert DataPath(store, "x").create_data_reference("r").path_on_datastore == "x"
    for wrong in ("../x", "a/../../b", 3, "a\0b"):
        with pytest.raises(UserErrorException):
            whole.path(wrong)  # type: ignore[arg-type]
    for name in ("a-b", "", "a b"):
        with pytest.raises(UserErrorException, match="becomes a part of a variable"):
            whole.path("x", name)
    with pytest.raises(UserErrorException, match="none of mount"):
        DataReference(store, mode="copy")
    with pytest.raises(NotOffered, match="absolute"):
        whole.as_download("/tmp/x")._data()


def test_old_names_warn_and_work(folder: Path) -> None:
    (folder / "t.csv").write_text("# note\nx\n1\n")
    with pytest.warns(DeprecationWarning, match=r"Dataset\.File\.from_files"):
        assert len(Dataset.from_binary_files(str(folder)).to_path()) == 4
    with pytest.warns(DeprecationWarning, match="Tabular"):
        table = Dataset.from_delimited_files(str(folder / "t.csv"), comment="#")
    assert list(table.to_pandas_dataframe()["x"]) == [1]
    with pytest.raises(NotOffered, match="Tabular"):
        Dataset.from_json_files("x")
    assert isinstance(DatasetConsumptionConfig("n", table).dataset, AbstractDataset)
