"""The whole command line: versions, usage, exit codes, and readers that leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import windlass
import windlass.cli
from cli.conftest import COMMAND, Cli, History


def test_version_is_printed_in_both_ways(cli: Cli) -> None:
    assert cli("--version").out == cli("version").out == f"windlass {windlass.__version__}\n"
    assert cli("version", "--json").json == {"version": windlass.__version__, "azureml": windlass.VERSION}


def test_version_and_help_load_no_more_than_they_need() -> None:
    script = """
import sys
from windlass.cli import main
main(["--version"]); before = set(sys.modules)
main(["--help"]); after = set(sys.modules)
print([m for m in before if m.split(".")[0] in ("typer", "rich")])
print([m for m in after if m.startswith(("windlass._transport", "windlass.workspace", "rich.console", "http."))])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-2:] == ["[]", "[]"]


@pytest.mark.parametrize(
    "words", [["nonsense"], ["run", "nonsense"], ["ps", "--nonsense"], ["logs"], ["ps", "-n", "0"]]
)
def test_wrong_usage_exits_with_2_and_says_so_on_stderr(cli: Cli, words: list[str]) -> None:
    said = cli(*words)
    assert (said.code, said.out) == (2, "")
    assert "Usage: windlass" in said.err and "Error: " in said.err


def test_without_a_workspace_the_message_names_the_way_out(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli("ps")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("windlass: ") and "windlass init" in said.err and "Traceback" not in said.err


def test_an_unknown_workspace_is_named_before_or_after_the_command(cli: Cli) -> None:
    for words in (["-w", "other", "ps"], ["ps", "-w", "other"]):
        said = cli(*words)
        assert said.code == 1 and "no workspace 'other'" in said.err


def test_the_workspace_can_be_named_from_anywhere(
    cli: Cli, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(cli("-w", "ws", "ps", "--json").json["runs"]) == 2
    assert cli("ps", "-w", "ws", "--json").out == cli("-w", "ws", "ps", "--json").out
    assert cli("ps").code == 1, "the name holds for one command only"


def test_without_typer_the_message_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    said = cli("ps")
    assert (said.code, said.out) == (2, "")
    assert "windlass-sdk[cli]" in said.err


def test_a_problem_with_the_disk_is_a_message(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    said = cli("init", "ws")
    assert said.code == 1 and str(tmp_path / "home") in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    "words", [["ps"], ["logs", "last"], ["run", "show", "last", "--json"], ["--help"], ["--version"]]
)
def test_a_reader_that_leaves_ends_the_command_quietly(history: History, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as out:
        said = subprocess.run([*COMMAND, *words], stdout=out, stderr=subprocess.PIPE, text=True, timeout=30)
    assert "Error" not in said.stderr and "Traceback" not in said.stderr
    assert said.returncode == 1


@pytest.mark.parametrize("words", [["ps"], ["run", "show", "last", "--json"], ["open", "--print"], ["--help"]])
def test_a_closed_stdout_changes_nothing_else(history: History, words: list[str]) -> None:
    said = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *COMMAND, *words], stderr=subprocess.PIPE, text=True, timeout=30
    )
    assert "Error" not in said.stderr and "Traceback" not in said.stderr
    assert said.returncode == 0


def test_piped_output_is_plain(history: History) -> None:
    for words in (["ps"], ["run", "show", "last"], ["server"], ["compute"], ["--help"]):
        said = subprocess.run([*COMMAND, *words], capture_output=True, timeout=30)
        assert said.returncode == 0 and said.stdout
        assert all(32 <= byte < 127 or byte == 10 for byte in said.stdout), said.stdout


def test_json_is_the_same_through_a_pipe(history: History) -> None:
    said = subprocess.run([*COMMAND, "ps", "--json"], capture_output=True, text=True, timeout=30)
    assert [run["id"] for run in json.loads(said.stdout)["runs"]] == [history.bad, history.good]


def test_main_stays_the_entry_point(cli: Cli) -> None:
    assert cli("--help").code == 0
    assert callable(windlass.cli.main), "no module of that name may take its place"
