"""v1's framework estimators with real installs from the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass import Estimator
from windlass._submit import submit
from windlass.dnn import Chainer, PyTorch, TensorFlow
from windlass.sklearn_estimator import SKLearn
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.testing import harness
from windlassd.testing.harness import Workspace


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real installs take longer than anything else a test waits for."""
    monkeypatch.setattr(harness, "WAIT_S", 900.0)


def run(workspace: Workspace, folder: Path, kind: type, script: str, **given: object) -> RunRecord:
    """A finished run of an estimator with that script."""
    (folder / "train.py").write_text(script)
    record = submit(workspace.client, "frameworks", kind(str(folder), entry_script="train.py", **given)._job(), {})
    ended = workspace.wait(record.id)
    assert ended.status is RunStatus.COMPLETED, ended.reason
    return ended


@pytest.mark.packages
def test_conda_packages_come_from_pypi(shared: Workspace, tmp_path: Path) -> None:
    script = "import sklearn, joblib, sys; print(sys.version_info[:2])\n"
    ended = run(shared, tmp_path, Estimator, script, conda_packages=["scikit-learn"], pip_packages=["joblib"])
    assert any(note.startswith("Python 3.") for note in ended.environment["notes"])


@pytest.mark.packages
@pytest.mark.interpreters
def test_an_old_scikit_learn_runs_on_an_old_python(shared: Workspace, tmp_path: Path) -> None:
    script = (
        "import sklearn, sys; from sklearn.linear_model import LogisticRegression as L\n"
        "L(solver='lbfgs').fit([[0], [1]], [0, 1]); assert sklearn.__version__ == '0.20.3', sklearn.__version__\n"
    )
    ended = run(shared, tmp_path, SKLearn, script, framework_version="0.20.3")
    assert ended.environment["python_version"].startswith("3.7.")


@pytest.mark.packages
def test_chainer_trains(shared: Workspace, tmp_path: Path) -> None:
    script = (
        "import numpy as np, chainer, chainer.links as L\n"
        "m = L.Classifier(L.Linear(4, 2)); o = chainer.optimizers.Adam().setup(m)\n"
        "o.update(m, np.ones((2, 4), 'f'), np.array([0, 1], 'i')); print(chainer.__version__)\n"
    )
    ended = run(shared, tmp_path, Chainer, script, pip_packages=["numpy", "pytest"])
    assert any("built from source: chainer" in note for note in ended.environment["notes"])


@pytest.mark.frameworks
def test_pytorch_with_an_old_pillow_runs_on_the_python_that_has_its_wheels(shared: Workspace, tmp_path: Path) -> None:
    script = "import torch, PIL; assert PIL.__version__ == '5.4.1'; print(torch.ones(2).sum())\n"
    ended = run(shared, tmp_path, PyTorch, script, pip_packages=["pillow==5.4.1"])
    assert ended.environment["python_version"].startswith("3.7.")


@pytest.mark.frameworks
def test_a_pinned_torch_comes_without_cuda_where_a_folder_has_it(shared: Workspace, tmp_path: Path) -> None:
    script = "import torch; assert torch.__version__.endswith('+cpu'), torch.__version__\n"
    run(shared, tmp_path, PyTorch, script, framework_version="2.13.0")


@pytest.mark.frameworks
@pytest.mark.parametrize("version", [None, "1.13"])
def test_tensorflow_old_and_new(shared: Workspace, tmp_path: Path, version: str | None) -> None:
    wanted = version or "2."
    script = f"import tensorflow as tf; assert tf.__version__.startswith({wanted!r}), tf.__version__\n"
    run(shared, tmp_path, TensorFlow, script, framework_version=version)
