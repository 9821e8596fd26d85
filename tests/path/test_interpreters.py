"""One workspace on 3.11, jobs on every CPython from 3.7 up that this machine has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from windlass import Environment, Experiment, ScriptRunConfig
from windlass import Workspace as ClientWorkspace
from windlassd.envs.interpreters import Interpreter, Interpreters
from windlassd.testing.harness import Workspace

pytestmark = pytest.mark.interpreters

SCRIPT = """
import os, sys, threading
from azureml.core import Run
run = Run.get_context()
run.log("minor", sys.version_info[1])
for step in range(3):
    run.log("loss", 1.0 / (step + 1), step=step)
if os.fork() == 0:
    run.log("child", 1)
    os._exit(0)
os.wait()
threading.Thread(target=run.log, args=("thread", 2)).start()
run.tag("python", "%d.%d" % sys.version_info[:2])
with open("report.txt", "w") as f:
    f.write(sys.version)
run.upload_file("reports/version.txt", "report.txt")
run.flush()
print("seen by the job:", run.get_metrics("loss")["loss"])
"""


def test_jobs_log_tag_and_upload_on_every_interpreter(workspace: Workspace, home: Path, tmp_path: Path) -> None:
    found = {minor(i): i.path for i in available(home)}
    assert len(found) >= 2, f"this tier needs several interpreters; the machine has {sorted(found)}"
    (tmp_path / "train.py").write_text(SCRIPT)
    experiment = Experiment(ClientWorkspace.create("test", exist_ok=True), "interpreters")
    runs = {}
    for version, path in found.items():
        environment = Environment(f"python-{version}")
        environment.python.user_managed_dependencies = True
        environment.python.interpreter_path = path
        runs[version] = experiment.submit(
            ScriptRunConfig(source_directory=str(tmp_path), script="train.py", environment=environment)
        )
    for version, run in runs.items():
        run.wait_for_completion()
        metrics = run.get_metrics()
        assert metrics == {
            "minor": int(version.split(".")[1]), "loss": [1.0, 0.5, pytest.approx(1 / 3)], "child": 1, "thread": 2,
        }, version  # fmt: skip
        assert run.get_tags()["python"] == version
        run.download_file("reports/version.txt", str(tmp_path / version))
        assert (tmp_path / version).read_text().startswith(version)
        assert "seen by the job: [1.0, 0.5" in workspace.log(run.id)


def test_each_version_can_be_asked_for_by_name(workspace: Workspace, home: Path) -> None:
    runs = {}
    for version in {minor(i) for i in available(home)}:
        environment = {"python_version": version}
        runs[version] = workspace.submit("import sys; print(sys.version.split()[0])", environment=environment)
    for version, run_id in runs.items():
        assert workspace.wait(run_id).status.value == "Completed", workspace.get(run_id).reason
        assert workspace.log(run_id).startswith(version + ".")


def test_the_sdk_alone_runs_on_the_oldest(home: Path) -> None:
    oldest = min(available(home), key=lambda i: i.numbers)
    sdk = Path(__file__).parents[2] / "sdk" / "src"
    code = "import windlass, azureml.core; from azureml.core import Run; print(type(Run.get_context()).__name__)"
    done = subprocess.run(
        [oldest.path, "-W", "error", "-c", code], env={"PYTHONPATH": str(sdk), "HOME": str(home)}, text=True,
        capture_output=True, check=True, cwd=home,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "_OfflineRun"


def available(home: Path) -> list[Interpreter]:
    """The machine's interpreters that a job may run on."""
    return [i for i in Interpreters(str(home / "interpreters.json")).available() if i.numbers >= (3, 7)]


def minor(interpreter: Interpreter) -> str:
    return ".".join(map(str, interpreter.numbers[:2]))
