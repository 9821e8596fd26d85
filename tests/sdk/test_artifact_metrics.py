"""Images and v1's charts: checked where they are logged, kept as files, found by their address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from windlass import Run
from windlass.errors import UserErrorException

_LABELS = {"class_labels": ["cat", "dog"]}
_GOOD: dict[str, dict[str, Any]] = {
    "log_confusion_matrix": {**_LABELS, "matrix": [[1, 2], [3, 4]]},
    "log_accuracy_table": {**_LABELS, "probability_tables": [[], []], "percentile_tables": [[], []],
                           "probability_thresholds": [0.0], "percentile_thresholds": [0.0]},
    "log_residuals": {"bin_edges": [1, 2, 3], "bin_counts": [5, 6]},
    "log_predictions": {"bin_averages": [1, 2], "bin_errors": [0, 0], "bin_counts": [3, 4], "bin_edges": [1, 2, 3]},
}  # fmt: skip


class Figure:
    def savefig(self, out: Any, format: str) -> None:
        out.write(b"drawn as " + format.encode())


class Axes:
    def get_figure(self) -> Figure:
        return Figure()


@pytest.fixture
def run() -> Any:
    return Run.get_context()


def kept(home: Path, run: Any, name: str) -> bytes:
    address = run.get_metrics()[name]
    prefix = f"aml://artifactId/ExperimentRun/dcid.{run.id}/"
    assert address.startswith(prefix)
    return (home / "offline" / run.id / "files" / address.removeprefix(prefix)).read_bytes()


def test_images_from_files_and_figures(run: Any, home: Path, tmp_path: Path) -> None:
    (tmp_path / "plot.JPG").write_bytes(b"a photo")
    run.log_image("photo", path=str(tmp_path / "plot.JPG"))
    run.log_image("a/b: figure", plot=Figure())
    run.log_image("axes", plot=Axes())
    assert kept(home, run, "photo") == b"a photo" and run.get_metrics()["photo"].endswith(".jpg")
    assert kept(home, run, "a/b: figure") == kept(home, run, "axes") == b"drawn as png"
    for _ in range(2):
        run.log_image("photo", plot=Figure())
    assert len(set(run.get_metrics()["photo"])) == 3, "each has a file of its own"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of them"),
        ({"path": "x.png", "plot": Figure()}, "one of them"),
        ({"path": "notes.txt"}, "no image by its name"),
        ({"path": "absent.png"}, "No such file"),
        ({"plot": 3}, "matplotlib figure"),
    ],
)
def test_what_is_no_image_says_so(run: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserErrorException, match=words):
        run.log_image("i", **options)


@pytest.mark.parametrize("method", sorted(_GOOD))
def test_charts_as_dictionary_and_as_text(run: Any, home: Path, method: str) -> None:
    document = {"schema_type": method.removeprefix("log_"), "schema_version": "v1", "data": _GOOD[method]}
    getattr(run, method)("chart", document)
    assert json.loads(kept(home, run, "chart")) == document
    assert run.get_metrics("chart", populate=True) == {"chart": document}
    getattr(run, method)("text", json.dumps(document))
    assert json.loads(kept(home, run, "text")) == document


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("log_confusion_matrix", "{", "not JSON"),
        ("log_confusion_matrix", [1], "dictionary or JSON text"),
        ("log_confusion_matrix", {"schema_type": "residuals", "data": {}}, "not 'confusion_matrix'"),
        ("log_confusion_matrix", {"data": {**_LABELS, "matrix": [[1, 2]]}}, "2 rows of 2"),
        ("log_accuracy_table", {"data": {**_GOOD["log_accuracy_table"], "probability_tables": [[]]}}, "each class"),
        ("log_residuals", {"data": {"bin_edges": [1], "bin_counts": [1]}}, "1 more"),
        ("log_residuals", {"data": {"bin_edges": [1]}}, "bin_counts'. must be a list"),
        ("log_predictions", {"data": {**_GOOD["log_predictions"], "bin_errors": []}}, "as many"),
        ("log_predictions", {}, "no dictionary 'data'"),
    ],
)  # fmt: skip
def test_a_document_that_is_none_says_what_is_missing(run: Any, method: str, value: Any, words: str) -> None:
    with pytest.raises(UserErrorException, match=words):
        getattr(run, method)("chart", value)
    assert run.get_metrics() == {}
