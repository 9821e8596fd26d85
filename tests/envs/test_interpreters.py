from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from windlassd.envs import interpreters
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.interpreters import Interpreter, Interpreters, fits, own, too_old


@pytest.fixture
def found(tmp_path: Path) -> Interpreters:
    return Interpreters(str(tmp_path / "interpreters.json"))


def pretend(monkeypatch: pytest.MonkeyPatch, found: Interpreters, *versions: str) -> None:
    known = [Interpreter(f"/pythons/{version}", version, "cpython") for version in versions]
    monkeypatch.setattr(found, "available", lambda: sorted(known, key=lambda item: item.numbers, reverse=True))
    monkeypatch.setattr(interpreters, "own", lambda: Interpreter("/pythons/3.11.7", "3.11.7", "cpython"))


@pytest.mark.parametrize(
    ("wanted", "versions"),
    [
        (None, ["3.13.0", "3.12.4", "3.11.7", "3.10.2", "3.9.18", "3.8.3"]),
        ("3.9", ["3.9.18"]),
        ("3.9.1", ["3.9.1"]),
        ("3.11", ["3.11.7"]),
        ("3.11.9", ["3.11.9"]),
        (">=3.7,<3.10", ["3.9.18", "3.8.3"]),
        (">=3.12", ["3.13.0", "3.12.4"]),
        ("=3.8.*", ["3.8.3"]),
        ("~=3.12", ["3.13.0", "3.12.4"]),
    ],
)
def test_newest_first_one_of_each_minor_version_windlassds_own_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, found: Interpreters, wanted: str | None, versions: list[str]
) -> None:
    pretend(monkeypatch, found, "3.8.3", "3.9.1", "3.9.18", "3.10.2", "3.11.7", "3.11.9", "3.12.1", "3.12.4", "3.13.0")
    assert [item.version for item in found.fitting(wanted)] == versions


@pytest.mark.parametrize("wanted", ["three", "3.9.1.2", "", "3.9;", "=>3"])
def test_nonsense_is_no_version(wanted: str) -> None:
    with pytest.raises(EnvironmentFailed, match="no Python version"):
        fits((3, 9, 1), wanted)


@pytest.mark.parametrize(("wanted", "old"), [("3.6", True), ("2", True), ("3.6.*", True), ("3", False), ("3.7", False),
                                             (">=3.6", False), ("3.10", False)])  # fmt: skip
def test_too_old(wanted: str, old: bool) -> None:
    assert bool(too_old(wanted)) is old


def test_own_is_the_interpreter_below_the_virtual_environment(found: Interpreters) -> None:
    assert own().path == os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
    assert own() in found.available()


def test_a_pyenv_root_is_found_by_its_shims_and_shims_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Interpreters
) -> None:
    shims, versions = tmp_path / "py env" / "shims", tmp_path / "py env" / "versions" / "x" / "bin"
    shims.mkdir(parents=True)
    versions.mkdir(parents=True)
    (shims / "python3.9").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (shims / "python3.9").chmod(0o755)
    real = versions / "python3"
    real.write_bytes(b"\x7fELF nothing that runs")
    real.chmod(0o755)
    monkeypatch.setenv("PATH", str(shims))
    monkeypatch.setenv("PYENV_ROOT", "")
    monkeypatch.setenv("HOME", "")
    assert str(real) in interpreters._candidates()
    assert str(shims / "python3.9") not in interpreters._candidates()
    assert str(real) not in [item.path for item in found.available()]  # it was tried, and does not start
    assert not (tmp_path / "ran").exists()


def test_a_restart_runs_no_interpreter_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Interpreters
) -> None:
    first = found.available()
    monkeypatch.setattr(interpreters, "probe", lambda path: pytest.fail(f"ran {path}"))
    assert found.available() == first
    assert Interpreters(str(tmp_path / "interpreters.json")).available() == first


def test_a_corrupt_memory_is_learned_anew(tmp_path: Path, found: Interpreters) -> None:
    (tmp_path / "interpreters.json").write_text('{"/usr/bin/python3": "x"')
    assert own() in found.available()


@pytest.mark.interpreters
def test_every_pyenv_interpreter_from_3_7_is_found(found: Interpreters) -> None:
    minors = {item.version.rpartition(".")[0] for item in found.available()}
    assert {"3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"} <= minors
    assert "3.6" not in minors
