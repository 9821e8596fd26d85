"""What estimators and run configurations ask for, with real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from windlass import ScriptRunConfig
from windlass._submit import submit
from windlass.dnn import TensorFlow
from windlass.errors import AzureMLException
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.py").write_text("import sys\nprint(sys.version_info[:2], sys.argv[1:])\n")
    return folder


@pytest.mark.parametrize(
    ("command", "said"),
    [(["python", "train.py", "a b", "$AZUREML_ARM_PROJECT_NAME;"], "['a b', 'configs;']"),
     ("python train.py $(echo a b) && echo done", "['a', 'b']\ndone")],
)  # fmt: skip
def test_a_command_runs_with_the_environments_interpreter(
    shared: Workspace, source: Path, command: object, said: str
) -> None:
    record = submit(shared.client, "configs", ScriptRunConfig(str(source), command=command)._job(), {})
    assert shared.wait(record.id).status is RunStatus.COMPLETED
    assert shared.log(record.id) == f"{sys.version_info[:2]} {said}\n"


def test_a_command_that_is_not_there_says_so(shared: Workspace, source: Path) -> None:
    record = submit(shared.client, "configs", ScriptRunConfig(str(source), command=["no-such-program"])._job(), {})
    run = shared.wait(record.id)
    assert run.status is RunStatus.FAILED and "no-such-program" in run.reason.message


def test_what_no_interpreter_can_have_is_refused_at_submit(shared: Workspace, source: Path) -> None:
    job = TensorFlow(str(source), entry_script="train.py", framework_version="1.10")._job()
    with pytest.raises(AzureMLException, match=r"TensorFlow 1\.10 needs a Python older than 3\.7"):
        submit(shared.client, "configs", job, {})
