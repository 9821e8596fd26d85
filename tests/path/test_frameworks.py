"""v1's framework estimators with real installs from the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass import Estimator, Model
from windlass import Workspace as ClientWorkspace
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
@pytest.mark.interpreters
def test_a_list_of_2019_works_and_not_just_installs(shared: Workspace, tmp_path: Path) -> None:
    """Today's Jinja and NumPy, which the list leaves open, break what it pins."""
    script = "import flask, sklearn.linear_model, pandas, pkg_resources; print(flask.Flask('a'))\n"
    packages = ["flask==1.0.2", "scikit-learn==0.22.1", "pandas", "azureml-defaults"]
    ended = run(shared, tmp_path, Estimator, script, pip_packages=packages)
    assert ended.environment["python_version"].startswith("3.8.")
    notes = " ".join(ended.environment["notes"])
    assert "of 2020-01-02, so what it leaves open is taken as of 2020-03-02" in notes
    assert "(scikit-learn==0.22.1 without wheels there)" in notes


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
def test_the_newest_tensorflow(shared: Workspace, tmp_path: Path) -> None:
    script = "import tensorflow as tf; assert tf.__version__.startswith('2.'), tf.__version__\n"
    run(shared, tmp_path, TensorFlow, script)


LEARNS = """
import json, sys
from azureml.core.run import Run
run = Run.get_context()

def check(losses, accuracy):
    for step, loss in enumerate(losses):
        run.log("loss", float(loss), step=step)
    run.log("accuracy", float(accuracy))
    assert losses[-1] < 0.5 * losses[0], losses
    assert accuracy > 0.9, accuracy
"""
"""What each training script begins with: it must have learned what there was to learn."""

CHAINER = (
    LEARNS
    + """
import chainer, numpy as np, chainer.functions as F, chainer.links as L
from chainer import training
from chainer.training import extensions

rng = np.random.RandomState(0)
np.random.seed(0)
x = rng.rand(600, 2).astype(np.float32)
y = (x[:, 0] > x[:, 1]).astype(np.int32)
data = chainer.datasets.TupleDataset(x, y)
train, test = chainer.datasets.split_dataset(data, 500)
model = L.Classifier(chainer.Sequential(L.Linear(2, 16), F.relu, L.Linear(16, 2)))
optimizer = chainer.optimizers.Adam(alpha=0.05).setup(model)
updater = training.StandardUpdater(chainer.iterators.SerialIterator(train, 50), optimizer)
trainer = training.Trainer(updater, (10, "epoch"), out="outputs")
trainer.extend(extensions.Evaluator(chainer.iterators.SerialIterator(test, 50, repeat=False, shuffle=False), model))
trainer.extend(extensions.LogReport())
trainer.extend(extensions.snapshot_object(model, "model.npz"), trigger=(10, "epoch"))
trainer.run()
log = json.load(open("outputs/log"))
check([entry["main/loss"] for entry in log], log[-1]["validation/main/accuracy"])
assert chainer.__version__ == "{version}", chainer.__version__
chainer.serializers.load_npz("outputs/model.npz", model)
"""
)

SKLEARN = (
    LEARNS
    + """
import joblib, os, sklearn, numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

rng = np.random.RandomState(0)
x = rng.normal(size=(400, 5))
y = (x @ np.arange(5) > 0).astype(int)
model = SGDClassifier(loss="{loss}", random_state=0, learning_rate="constant", eta0=0.01)
losses = []
for _ in range(20):
    model.partial_fit(x[:300], y[:300], classes=[0, 1])
    losses.append(log_loss(y[300:], model.predict_proba(x[300:])))
check([0.7] + losses, model.score(x[300:], y[300:]))
joblib.dump(model, "outputs/model.joblib")
run.register_model("{name}", model_path="outputs/model.joblib")
print(sklearn.__version__)
"""
)

TORCH = (
    LEARNS
    + """
import torch, numpy as np
torch.manual_seed(0)
x = torch.rand(512, 2)
y = (x[:, 0] > x[:, 1]).long()
model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
losses = []
for _ in range(60):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
check(losses, (model(x).argmax(1) == y).float().mean().item())
assert torch.from_numpy(np.ones(2)).sum() == 2.0
torch.save(model.state_dict(), "outputs/model.pt")
assert torch.__version__.startswith("{version}"), torch.__version__
"""
)


@pytest.mark.frameworks
@pytest.mark.parametrize(("version", "python"), [("5.1.0", "3.7."), ("7.8.1", "3.")])
def test_chainers_trainer_trains(shared: Workspace, tmp_path: Path, version: str, python: str) -> None:
    script = CHAINER.replace("{version}", version)
    ended = run(shared, tmp_path, Chainer, script, framework_version=version, pip_packages=["numpy", "pytest"])
    assert ended.environment["python_version"].startswith(python)
    assert f"Chainer {version} (chainer): as asked for" in " ".join(ended.environment["notes"])


@pytest.mark.frameworks
@pytest.mark.parametrize(("version", "loss"), [("0.20.3", "log"), (None, "log_loss")])
def test_scikit_learn_trains_and_registers(shared: Workspace, tmp_path: Path, version: str | None, loss: str) -> None:
    name = f"sk-{loss}".replace("_", "-")
    script = SKLEARN.replace("{loss}", loss).replace("{name}", name)
    ended = run(shared, tmp_path, SKLearn, script, framework_version=version)
    [model] = Model.list(ClientWorkspace.create("test", exist_ok=True), name=name)
    assert model.run_id == ended.id
    assert not version or ended.environment["python_version"].startswith("3.7.")


@pytest.mark.frameworks
@pytest.mark.parametrize("version", ["1.13", "2.13"])
def test_torch_trains(shared: Workspace, tmp_path: Path, version: str) -> None:
    script = TORCH.replace("{version}", version)
    ended = run(shared, tmp_path, PyTorch, script, framework_version=version)
    assert f"the newest {version} that fits" in " ".join(ended.environment["notes"])


@pytest.mark.frameworks
def test_v1s_defaults_can_be_had(shared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_FRAMEWORK_DEFAULTS", "v1")
    script = "import tensorflow as tf; assert tf.__version__.startswith('1.13'); tf.placeholder(tf.float32)\n"
    ended = run(shared, tmp_path, TensorFlow, script)
    assert ended.environment["python_version"].startswith("3.7.")
