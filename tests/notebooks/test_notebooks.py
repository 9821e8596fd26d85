"""The notebooks of ``examples/`` run from top to bottom without a complaint, and show what their text promises."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import end_processes_of
from windlass._transport.client import Client
from windlass._transport.places import workspace_dir

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SHOWN = {
    "01-first-experiment": [
        r"alpha 0\.1: rmse 57\.2",
        r"alpha 1\.0: rmse 61\.9",
        r"\{'alpha': 0\.1, 'rmse': 57\.2",
        r"\['outputs/model\.joblib'\]",
        r"array\(\[161\., 205\., 177\.\]\)",
    ],
    "02-logging": [
        r"loss +list +\[2\.38",
        r"accuracy +float +0\.7",
        r"optimizer +str +adam",
        r"layers +list +\[64, 32, 10\]",
        r"by_digit +dict +\{'digit': \[0, 1, 2",
        r"sine +dict +\{'angle': \[0, 45, 90\]",
        *(rf"{name} +str +aml://artifactId/" for name in ("training", "confusion", "thresholds", "residuals")),
        r"predictions +str +aml://artifactId/",
        r"\.png'",
    ],
    "03-managing-runs": [
        r"Running\nCompleted",
        r"'author' of .* is 'me' already",
        r"\{'quality': 'excellent', 'looked at': ''\} me",
        r"Failed - ZeroDivisionError: division by zero",
        r"Failed - the data was not there",
        r"\nCanceled",
        r"failed: \[3, 2\]\nexcellent: \['a first try'\]\nsame run: True\n4 Canceled \n3 Failed \n",
    ],
    "04-local-training": [
        r"fold 4: accuracy 1\.000",
        r"Execution Summary",
        r"mean accuracy 0\.980",
        r"'outputs/iris\.joblib'",
        r"\['--kernel', 'rbf', '--penalty', '10\.0'\]",
        r"iris 1 True",
    ],
    "05-cluster-training": [
        r"'maxNodeCount': 2",
        r"  1 trees: 0\.\d+\n  5 trees: 0\.\d+\n 50 trees: 0\.9",
        r"\n4\n\[\]",
    ],
    "06-environments": [
        r"- cowsay",
        r"\ntalk 1\n",
        r"hello, 123\.5 million times",
        r"hen +2",
        r"\n2 1\n",
        r"\['talk', 'talk-loud'\]",
        r"'emoji'.*\n\['humanize'\]",
        r"True \['conda-forge'\]\n",
        r"good morning, 123\.5 million times",
        r"python=3\.7\n(?s:.*)scikit-learn==0\.24\.\*",
        r"\nTrue\nFROM python:3\.11-slim\nRUN apt-get update\n",
    ],
    "07-datasets": [
        r"workspaceblobstore",
        r"iris-table version 1",
        r"setosa\.txt - Iris setosa is an iris\.",
        r"\{'rows': 150",
    ],
    "08-models": [
        r"wine-folder version 1",
        r"newest: 2\nfirst: with its classes\nwine-folder 2 \{'reviewed': 'yes'\}",
        r"\['classes\.json', 'model\.joblib'\]",
        r"\['first', 'second', 'second'\]",
        r"\{'accuracy': 1\.0\} models \{'classes': '3'\}",
        r"\n\[1\]",
    ],
    "09-offline-logging": [
        r"'OfflineRun_[0-9a-f-]{36}'\nTrue False",
        r"Attempted to log scalar metric error:\n0\.66",
        r"Completed \{'degree': 6, 'points': 1000\} \['outputs/angles\.txt'\]",
        r"\{'error': \[0\.66\d+, 0\.05\d+, 0\.00\d+, .*\], 'best': \{'degree': 6, 'points': 1000\}\}",
        r"\{'where': 'on the train'\} \['outputs/angles\.txt'\] Completed",
    ],
    "10-child-runs": [
        r"_4 fold 4 \{'accuracy': ",
        r"25 neighbors: \{'accuracy': 0\.\d+\}\n5 neighbors: .*\n1 neighbors: ",
        r"one of 9 children of 'cross validation'",
        r"\nCompleted",
    ],
}


def read(name: str) -> Any:
    """The notebook, as JSON."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))


def test_each_notebook_is_checked() -> None:
    assert set(SHOWN) == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_kept_without_outputs(name: str) -> None:
    for cell in read(name)["cells"]:
        assert cell["source"], "an empty cell"
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "clear the outputs before you commit"


@pytest.fixture(scope="module")
def notebooks_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of all notebooks, as a user has one."""
    folder = tmp_path_factory.mktemp("notebooks")
    yield folder
    end_processes_of(folder)


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(
    name: str, notebooks_home: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HOME", str(notebooks_home))
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(home / variable))
    shutil.copy(FOLDER / "config.json", tmp_path)
    Client(workspace_dir("examples")).get("/v1/server")  # so that no notebook reports that it made the workspace

    printed, complained = executed(name, tmp_path)
    assert complained == ""
    for shown in SHOWN[name]:
        assert re.search(shown, printed), f"{shown!r} is not shown. What is:\n{printed}"


def executed(name: str, folder: Path) -> tuple[str, str]:
    """Run a notebook in ``folder``; what its cells showed as text, and what they wrote to stderr."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs: list[Mapping[str, Any]] = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    shown = [o["text"] if "text" in o else o["data"]["text/plain"] + "\n" for o in outputs if o.get("name") != "stderr"]
    return "".join(shown), "".join(o["text"] for o in outputs if o.get("name") == "stderr")
