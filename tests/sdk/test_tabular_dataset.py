from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from windlass import Dataset
from windlass.dataset_factory import DataType
from windlass.dataset_types import PromoteHeadersBehavior
from windlass.errors import UserErrorException
from windlass.tabular_dataset import TabularDataset

pytest.importorskip("pandas")


def table(tmp_path: Path, *texts: str, **options: Any) -> TabularDataset:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.csv").write_text(text)
    return Dataset.Tabular.from_delimited_files(str(tmp_path / "*.csv"), **options)


def rows(dataset: TabularDataset, **options: Any) -> list[list[Any]]:
    frame = dataset.to_pandas_dataframe(**options)
    return [list(frame.columns), *frame.astype(object).where(frame.notna(), None).values.tolist()]


def test_files_become_one_table(tmp_path: Path) -> None:
    dataset = table(tmp_path, "a,b\n1,x\n2,\n", "a,b\n3,z\n", include_path=True)
    assert rows(dataset) == [["Path", "a", "b"], ["/0.csv", 1, "x"], ["/0.csv", 2, None], ["/1.csv", 3, "z"]]
    assert rows(dataset.keep_columns("a").skip(1).take(1)) == [["a"], [2]]
    assert rows(dataset.drop_columns(["Path", "a"]).take(1)) == [["b"], ["x"]]
    with pytest.raises(UserErrorException, match=r"no column 'c'; it has: Path, a, b"):
        dataset.keep_columns(["c"], validate=True)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (True, [["a"], ["1"], ["3"]]),
        (PromoteHeadersBehavior.ALL_FILES_HAVE_SAME_HEADERS, [["a"], ["1"], ["3"]]),
        (False, [["Column1"], ["a"], ["1"], ["a"], ["3"]]),
        (PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS, [["a"], ["1"], ["a"], ["3"]]),
    ],
)
def test_headers(tmp_path: Path, header: Any, expected: list[list[str]]) -> None:
    assert rows(table(tmp_path, "a\n1\n", "a\n3\n", header=header, infer_column_types=False)) == expected


def test_types_of_columns(tmp_path: Path) -> None:
    types = {
        "id": DataType.to_string(), "n": DataType.to_long(), "x": DataType.to_float(","), "ok": DataType.to_bool(),
        "day": DataType.to_datetime("%d.%m.%Y"),
    }  # fmt: skip
    text = "id;n;x;ok;day\n007;5;1.234,5;TRUE;24.12.2025\n008;many;?;perhaps;never\n"
    dataset = table(tmp_path, text, separator=";", set_column_types=types)
    frame = dataset.to_pandas_dataframe()
    assert list(frame["id"]) == ["007", "008"] and frame["n"][0] == 5 and frame["x"][0] == 1234.5
    assert bool(frame["ok"][0]) and frame["day"][0].month == 12
    assert all(frame[column].isna()[1] for column in ("n", "x", "ok", "day"))
    with pytest.raises(UserErrorException, match="on_error='null'"):
        dataset.to_pandas_dataframe(on_error="fail")
    with pytest.raises(UserErrorException, match="'absent', which the table lacks"):
        table(tmp_path, text, separator=";", set_column_types={"absent": DataType.to_long()}).to_pandas_dataframe()


def test_empty_fields_and_encodings(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_bytes("a,b\né,\n".encode("latin-1"))
    dataset = Dataset.Tabular.from_delimited_files(str(tmp_path / "0.csv"), encoding="latin1", empty_as_string=True)
    assert rows(dataset)[1] == ["é", ""]
    with pytest.raises(UserErrorException, match=r"0\.csv of the dataset cannot be read"):
        Dataset.Tabular.from_delimited_files(str(tmp_path / "0.csv")).to_pandas_dataframe()
    with pytest.raises(UserErrorException, match="encoding='klingon' is none of utf8"):
        Dataset.Tabular.from_delimited_files(str(tmp_path / "0.csv"), encoding="klingon")


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\nnot json\n\n{"a": 2, "b": "y"}\n')
    path = str(tmp_path / "x.jsonl")
    dropped = Dataset.Tabular.from_json_lines_files(path, invalid_lines="drop")
    assert rows(dropped) == [["a", "b"], [1, None], [2, "y"]]
    with pytest.raises(UserErrorException, match=r"line 2: .*invalid_lines='drop'"):
        Dataset.Tabular.from_json_lines_files(path).to_pandas_dataframe()


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(UserErrorException, match="pyarrow"):
        Dataset.Tabular.from_parquet_files(str(tmp_path)).to_pandas_dataframe()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserErrorException, match="needs pandas"):
        table(tmp_path, "a\n1\n").to_pandas_dataframe()
