"""``windlass submit``: options, outcome, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from cli.conftest import COMMAND, Cli
from windlass.cli.submit import _container_lines, environment
from windlass.environment import environment_spec


def test_a_script_is_run_and_its_output_is_the_result(cli: Cli, project: Path) -> None:
    said = cli("submit", "train.py", "one", "--", "--epochs", "2 3", "--", "-x")
    assert (said.code, said.out) == (0, "arguments: one --epochs 2 3 -- -x\n")
    phases = [line for line in said.err.splitlines() if re.match(r" +\d+\.\d s  ", line)]
    assert any("Running: " in phase for phase in phases), said.err
    (run_id,) = re.findall(r"Submitted (\S+) to local\.", said.err)
    assert run_id.startswith("my-project_"), "the experiment is named after the folder"
    assert f"{run_id}: Completed in " in said.err
    assert f"windlass run show {run_id}" in said.err.splitlines()[-3]


def test_a_run_that_fails_exits_with_1_and_its_reason(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    said = cli("submit", "train.py")
    assert said.code == 1 and "Failed: " in said.err and "SIGKILL" in said.err


def test_json_is_the_final_record_and_the_log_is_talk(cli: Cli, project: Path) -> None:
    said = cli("submit", "train.py", "--json", "--name", "a name", "-t", "kind=base", "-t", "bare", "--env", "A=b=c",
               "--max-seconds", "60", "-e", "other")  # fmt: skip
    record = said.json
    assert (record["status"], record["experiment"], record["display_name"]) == ("Completed", "other", "a name")
    assert record["tags"] == {"kind": "base", "bare": ""}
    assert record["spec"]["environment_variables"] == {"A": "b=c"}
    assert record["spec"]["max_run_duration_s"] == 60
    assert "arguments:" in said.err


def test_several_nodes_start_the_script_each(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text("import os\nprint('rank', os.environ['AZ_BATCHAI_TASK_INDEX'])\n")
    said = cli("submit", "train.py", "--nodes", "2", "--max-retries", "1", "--json")
    assert said.json["spec"]["node_count"] == 2 and len(said.json["nodes"]) == 2
    assert {"rank 0", "rank 1"} <= set(said.err.splitlines())
    assert "Attempt      1 of 2" in cli("run", "show", said.json["id"]).out
    assert cli("submit", "train.py", "--nodes", "0").code == 2


def test_detached_it_prints_the_id_and_what_comes_next(cli: Cli, project: Path) -> None:
    said = cli("submit", "--detach", "train.py")
    run_id = said.out.strip()
    assert said.code == 0 and f"windlass logs -f {run_id}" in said.err
    assert cli("logs", "-f", run_id).code == 0


def test_a_script_may_be_named_from_where_we_are(cli: Cli, project: Path) -> None:
    (project / "src").mkdir()
    (project / "src" / "inner.py").write_text("print('inner')")
    assert cli("submit", "--source", "src", "src/inner.py", "--json").json["spec"]["script"] == "inner.py"


def test_a_dry_run_prints_the_plan_and_queues_nothing(cli: Cli, project: Path) -> None:
    (project / ".git").mkdir()
    said = cli("submit", "train.py", "--dry-run")
    assert said.code == 0 and "Nothing was queued" in said.out and ".git/" in said.out and "train.py" in said.out
    planned = cli("submit", "train.py", "--dry-run", "--json", "--pip", "numpy").json
    assert planned["plan"]["steps"] and planned["snapshot"]["files"] == 2
    assert planned["spec"]["environment"]["pip_packages"] == ["numpy"]
    assert cli("ps", "--json").json["runs"] == []


def test_the_options_make_the_environment(project: Path) -> None:
    (project / "env.yml").write_text("channels:\n- one\ndependencies:\n- python=3.8\n- scipy\n- pip:\n  - six\n")
    (project / "Dockerfile").write_text("FROM debian\n")
    made = environment(["numpy"], ["scipy=1.9"], conda_file=str(project / "env.yml"), channels=["two"])
    spec = environment_spec(made)
    assert (spec.python_version, spec.conda_packages, spec.channels) == ("3.8", ("scipy=1.9",), ("one", "two"))
    assert spec.pip_packages == ("six", "numpy") and spec.container is None
    boxed = environment_spec(environment(image="a/b:1"))
    assert boxed.container is not None and (boxed.container.image, boxed.user_managed) == ("a/b:1", True)
    made = environment(["numpy"], dockerfile=str(project / "Dockerfile"))
    boxed = environment_spec(made)
    assert boxed.container is not None and (boxed.container.dockerfile, boxed.user_managed) == ("FROM debian\n", False)


def test_a_dry_run_says_what_container_it_would_be() -> None:
    asked = {"registry": "host:5000", "image": "a/b"}
    spec = {"environment": {"container": asked}, "container": {"memory_bytes": 2 << 30}}
    assert _container_lines(spec) == ["in a container of host:5000/a/b (memory 2.0 GB)"]
    spec["environment"]["container"] = {"registry": None, "image": None}
    assert _container_lines(spec) == ["in a container of the image that the Dockerfile makes (memory 2.0 GB)"]
    assert _container_lines({"environment": {"container": None}}) == []


@pytest.mark.parametrize("words, message", [
    (["trian.py"], "Did you mean 'train.py'"),
    (["../train.py"], "not inside source_directory"),
    (["train.py", "--source", "nowhere"], "'nowhere'"),
    (["train.py", "--target", "gpu"], "'gpu'"),
    (["train.py", "--requirements", "nothing.txt"], "nothing.txt"),
    (["train.py", "--python", "three"], "three"),
    (["train.py", "--image", "two words"], "'two words' is no name of an image"),
    (["train.py", "--image", "a/b", "--dockerfile", "train.py"], "give one of them"),
    (["train.py", "--dockerfile", "none"], "--dockerfile none is no file"),
    (["train.py", "--memory", "2g"], "--memory holds in containers only; give --image"),
    (["train.py", "--image", "a/b", "--shm-size", "big"], "--shm-size='big' is no size"),
    (["train.py", "--conda-file", "none.yml"], "none.yml cannot be read"),
    (["train.py", "--channel", "two words"], "neither a name such as"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_queued(
    cli: Cli, draft: Path, words: list[str], message: str
) -> None:
    for extra in ([], ["--dry-run"]):
        said = cli("submit", *words, *extra)
        assert (said.code, said.out) == (1, "") and message in said.err, said.err
    assert len(cli("ps", "--json").json["runs"]) == 2


@pytest.mark.parametrize("words, message", [
    (["train.py", "--epochs", "3"], "the script's own options go after `--`"),
    (["train.py", "--env", "A"], "'A' must be KEY=VALUE"),
    (["train.py", "--max-seconds", "0"], "--max-seconds"),
    (["train.py", "--max-retries", "-1"], "--max-retries"),
    ([], "SCRIPT"),
])  # fmt: skip
def test_wrong_usage_starts_nothing(cli: Cli, project: Path, home: Path, words: list[str], message: str) -> None:
    said = cli("submit", *words)
    assert said.code == 2 and message in said.err
    assert not (home / "workspaces").exists()


def test_options_become_an_environment(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("scipy  # science\n")
    made = environment(["numpy==1.26"], ["pandas"], str(tmp_path / "more.txt"), "3.9", ["A=1"])
    packages = made.python.conda_dependencies
    assert (packages.pip_packages, packages.conda_packages) == (("scipy", "numpy==1.26"), ("pandas",))
    assert (packages.get_python_version(), made.environment_variables) == ("3.9", {"A": "1"})


def test_ctrl_c_stops_the_watching_and_not_the_run(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text("import sys\nprint('begun', flush=True)\nopen(sys.argv[1]).read()\n")
    os.mkfifo(project / "gate")
    words = ["submit", "train.py", str(project / "gate")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts with `&`
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        signal.signal(signal.SIGINT, before)
        assert watching.stdout and watching.stdout.readline() == "begun\n"
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=20)
    assert (watching.returncode, out) == (130, "")
    assert "the run goes on" in err and "Traceback" not in err
    record = json.loads(cli("run", "show", "last", "--json").out)
    assert record["status"] == "Running" and f"windlass logs -f {record['id']}" in err
    (project / "gate").write_text("go on")
    assert cli("logs", "-f", "last").code == 0


def test_a_run_that_is_stopped_exits_with_1(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text("import sys\nprint('begun', flush=True)\nopen(sys.argv[1]).read()\n")
    os.mkfifo(project / "gate")
    words = ["submit", "train.py", str(project / "gate")]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout and watching.stdout.readline() == "begun\n"
        stopped = cli("stop", "last")
        _, err = watching.communicate(timeout=20)
    assert stopped.code == 0 and re.fullmatch(r"\S+: (CancelRequested|Canceled)\n", stopped.out)
    assert watching.returncode == 1 and err.splitlines()[-4].endswith(": Canceled")
