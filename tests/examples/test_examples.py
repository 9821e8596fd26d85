"""The examples do what they say, submitted as a user would; and the seed documents run word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from azureml.core import Experiment, Model, Run, Workspace
from conftest import end_processes_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SHARED = ROOT.parent / "shared"
FLOW = SHARED / "check" / "seed_flow.py"
_HEAVY = pytest.mark.frameworks
_LIGHT = pytest.mark.packages
_LIMIT_S = 1800
_WITH_WORKSPACE = """
import builtins, runpy, sys
from azureml.core import Workspace
builtins.Workspace = Workspace
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script to which ``Workspace`` is known: document 004 never imports it, and the check does not either."""


@dataclass(frozen=True)
class Flow:
    """What an example must have left in the history."""

    folder: str
    experiment: str
    model: str
    kept: Sequence[str]
    """Of the registered model."""
    best: tuple[str, float, float]
    """A metric, and the range in which its last value lies."""
    points: tuple[str, int]
    """A series, and its number of points."""
    printed: Sequence[str]


FLOWS = [
    pytest.param(
        Flow("digits", "digits", "digits", ["digits.joblib"], ("final_accuracy", 0.9, 1), ("loss", 20),
             ["registered model digits, version 1"]),
        marks=_LIGHT, id="digits",
    ),
    pytest.param(
        Flow("sklearn_estimator", "wine", "wine", ["model.joblib", "nearest_mean.py"], ("accuracy", 0.9, 1),
             ("fold_accuracy", 5), ["178 wines", "wine, version 1, accuracy 0.9", "of the classes [0, 0, 0]"]),
        marks=_LIGHT, id="sklearn_estimator",
    ),
    pytest.param(
        Flow("pytorch", "pytorch-digits", "pt-digits", ["model.pt"], ("best_val_acc", 0.9, 1), ("loss", 10),
             ["PyTorch 2.", "registered model pt-digits, version 1", "downloaded outputs/model.pt to model/model.pt"]),
        marks=_HEAVY, id="pytorch",
    ),
    pytest.param(
        Flow("pytorch_own_data", "curve", "curve", ["curve.pt"], ("final_mse", 0, 0.02), ("mse", 300),
             ["400 points", "registered model curve, version 1"]),
        marks=_HEAVY, id="pytorch_own_data",
    ),
    pytest.param(
        Flow("tensorflow", "tf-digits", "tf-digits", ["saved_model.pb"], ("final_acc", 0.9, 1), ("loss", 15),
             ["1347 images to train on, 450 to test with", "downloaded outputs/model/saved_model.pb"]),
        marks=_HEAVY, id="tensorflow",
    ),
    pytest.param(
        Flow("tensorflow1", "tf1-bars", "tf1-bars", ["bars.ckpt.index", "checkpoint"], ("final_acc", 0.9, 1),
             ("loss", 10), ["TensorFlow 1.13.2", "registered model tf1-bars, version 1"]),
        marks=_HEAVY, id="tensorflow1",
    ),
    pytest.param(
        Flow("chainer", "chainer-digits", "chainer-digits", ["model.npz"], ("Accuracy", 0.9, 1), ("Loss", 10),
             ["SDK version: 1.61.0", "'vmSize': 'STANDARD_NC6'", "registered model chainer-digits, version 1"]),
        marks=_HEAVY, id="chainer",
    ),
]  # fmt: skip
SEEDS = [
    pytest.param("000", marks=_HEAVY),
    pytest.param("001", marks=_HEAVY),
    pytest.param("002", marks=_LIGHT),
    pytest.param("003", marks=_HEAVY),
    pytest.param("004", marks=_HEAVY),
]


@pytest.fixture(scope="module")
def examples_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of all examples: environments that are built once serve later ones."""
    folder = tmp_path_factory.mktemp("examples")
    yield folder
    end_processes_of(folder)


@pytest.fixture
def frugal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's build for CPUs, where one lies beside the package index: the newest comes with gigabytes of CUDA."""
    constraint = tmp_path / "constraints.txt"
    constraint.write_text("torch==2.13.0\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(constraint))


@pytest.mark.parametrize("flow", FLOWS)
def test_an_example_runs(
    flow: Flow, examples_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frugal: None
) -> None:
    monkeypatch.setenv("WINDLASS_HOME", str(examples_home))
    project = tmp_path / "project"
    shutil.copytree(EXAMPLES / flow.folder, project, ignore=shutil.ignore_patterns("__pycache__"))
    printed = run_in(project, sys.executable, "submit.py")
    for words in flow.printed:
        assert words in printed

    workspace = Workspace.from_config(str(project))
    run = newest(Experiment(workspace, flow.experiment))
    assert run.get_status() == "Completed"
    metrics = run.get_metrics()
    name, low, high = flow.best
    last = metrics[name][-1] if isinstance(metrics[name], list) else metrics[name]
    assert low <= last <= high
    assert len(metrics[flow.points[0]]) == flow.points[1]

    model = Model(workspace, flow.model)
    assert (model.version, model.run_id) == (1, run.id)
    model.download(str(tmp_path / "fetched"))
    found = {path.name for path in (tmp_path / "fetched").rglob("*")}
    assert set(flow.kept) <= found


@pytest.mark.skipif(not FLOW.exists(), reason="the seed documents do not lie beside this checkout")
@pytest.mark.parametrize("number", SEEDS)
def test_a_seed_document_runs_word_for_word(number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    [document] = (SHARED / "seeds").glob(f"{number}_*.txt")
    known = ["-c", _WITH_WORKSPACE] if number == "004" else []
    printed = run_in(tmp_path, sys.executable, *known, str(FLOW), str(document))
    summary = re.search(r"(\d+) blocks ran, (\d+) metrics, (\d+) files", printed)
    assert summary and int(summary[1]) > 1, printed[-2000:]


def test_every_example_is_run() -> None:
    folders = {path.parent.name for path in EXAMPLES.glob("*/submit.py")}
    assert folders == {flow.values[0].folder for flow in FLOWS}  # type: ignore[union-attr]


def test_examples_stay_short() -> None:
    long = [str(path) for path in EXAMPLES.glob("*/*.py") if len(path.read_text("utf-8").splitlines()) > 60]
    assert long == []


def newest(experiment: Experiment) -> Run:
    """The experiment's last run."""
    return next(iter(experiment.get_runs()))


def run_in(folder: Path, *command: str) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
    return done.stdout
