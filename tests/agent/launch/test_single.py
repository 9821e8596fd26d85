from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from windlass.specs.launch import LaunchSpec
from windlassd.agent.launch.single import command


def words(tmp_path: Path, **given: Any) -> list[str]:
    launch = LaunchSpec(
        run_id="r", attempt=1, node="n", node_rank=0, script=given.pop("script", ""),
        arguments=given.pop("arguments", ()), snapshot_id="s", python="/env/bin/python", **given,
    )  # fmt: skip
    folder: Any = SimpleNamespace(work=str(tmp_path))
    return command(launch, folder, {"PATH": f"{tmp_path}/bin:/bin", "N": "7"})


def test_a_script_runs_in_its_interpreter(tmp_path: Path) -> None:
    assert words(tmp_path, script="train.py", arguments=("--n", "$N")) == ["/env/bin/python", "train.py", "--n", "7"]


def test_the_words_of_a_command_are_no_shells(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert words(tmp_path, command=("python", "a b", "$N; ls")) == [str(program), "a b", "7; ls"]
    assert words(tmp_path, command=("./bin/python",)) == [f"{tmp_path}/./bin/python"]
    assert words(tmp_path, command=("no-such-program", "x")) == ["no-such-program", "x"]


def test_a_text_is_a_shells(tmp_path: Path) -> None:
    assert words(tmp_path, command=("echo $N && ls",), shell=True) == ["/bin/sh", "-c", "echo $N && ls"]
