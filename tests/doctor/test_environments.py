"""Environments, the SDK's copies, and what lies in the home."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from doctor.conftest import Clinic
from doctor.test_metrics import dead_pid
from windlassd.agent.materialize import sdk_folder
from windlassd.envs._layout import Layout, State, boot_id

KEY = "0123456789abcdef" * 2
LONG_AGO = 1_000_000_000


@pytest.fixture
def built(clinic: Clinic) -> Path:
    """An environment that is whole."""
    layout = Layout(str(clinic.home / "environments"))
    prefix = Path(layout.prefix(KEY))
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    state = State(
        builder="venv", python="bin/python", python_version="3.11", packages=0, bytes=0, created=0.0, boot=boot_id()
    )
    layout.write_state(KEY, state)
    assert clinic.doctor(deep=True) == []
    return prefix


def no_interpreter(prefix: Path) -> None:
    (prefix / "bin" / "python").unlink()
    (prefix / "bin" / "python").symlink_to("/no/such/python")


def no_state(prefix: Path) -> None:
    (prefix / "windlass.json").unlink()


def damaged_state(prefix: Path) -> None:
    (prefix / "windlass.json").write_text('{"builder": "ve')


def empty(prefix: Path) -> None:
    shutil.rmtree(prefix)
    prefix.mkdir()


@pytest.mark.parametrize("damage", [no_interpreter, no_state, damaged_state, empty])
def test_a_broken_environment_is_taken_away_and_built_again_later(clinic: Clinic, built: Path, damage: object) -> None:
    damage(built)  # type: ignore[operator]
    assert KEY in clinic.only("environment_broken").where
    clinic.repaired("environment_broken")
    assert not built.exists()


def test_an_interpreter_that_does_not_start_is_found_by_deep(clinic: Clinic, built: Path) -> None:
    (built / "bin" / "python").unlink()
    (built / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (built / "bin" / "python").chmod(0o700)
    assert clinic.doctor() == []
    clinic.only("environment_broken", deep=True)
    clinic.repaired("environment_broken", deep=True)


def test_one_whose_interpreter_was_updated_is_no_damage(clinic: Clinic, built: Path) -> None:
    state = json.loads((built / "windlass.json").read_text())
    (built / "windlass.json").write_text(json.dumps({**state, "stamp": "1-1"}))
    assert clinic.doctor(deep=True) == [], "it is looked at when it is asked for"


def test_an_environment_that_is_being_built_is_left_alone(clinic: Clinic, built: Path) -> None:
    no_state(built)
    building = clinic.home / "environments" / "building" / f"{KEY}.1.aa"
    building.mkdir()
    with open(clinic.home / "environments" / "locks" / f"{KEY}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clinic.doctor(repair=True) == []
    assert building.exists() and built.exists()
    clinic.repaired("environment_broken", "environment_leftover")
    assert not building.exists()


def test_a_request_that_cannot_be_read_is_made_anew(clinic: Clinic, built: Path) -> None:
    note = clinic.home / "environments" / "requests" / f"{KEY}.json"
    note.write_text("{")
    clinic.only("environment_note")
    clinic.repaired("environment_note")
    assert not note.exists()


@pytest.mark.parametrize("damage", ["missing", "changed", "empty"])
def test_a_damaged_copy_of_the_sdk_is_made_anew(clinic: Clinic, damage: str) -> None:
    copy = Path(sdk_folder(str(clinic.dir)))
    inside = copy / "windlass" / "run.py"
    before = inside.read_bytes()
    if damage == "missing":
        shutil.rmtree(copy / "windlass")
    elif damage == "changed":
        inside.write_text("raise SystemExit")
    else:
        shutil.rmtree(copy)
        copy.mkdir()
    clinic.only("sdk_copy_damaged")
    clinic.repaired("sdk_copy_damaged")
    assert inside.read_bytes() == before
    assert os.listdir(copy.parent) == [copy.name]


def test_a_damaged_copy_of_another_version_goes(clinic: Clinic) -> None:
    other = clinic.home / "sdk" / ("0" * 16)
    (other / "windlass").mkdir(parents=True)
    clinic.only("sdk_copy_damaged")
    clinic.repaired("sdk_copy_damaged")
    assert not other.exists()


def test_copies_that_were_being_made(clinic: Clinic) -> None:
    dead, live = clinic.home / "sdk" / f"{'0' * 16}.{dead_pid()}", clinic.home / "sdk" / f"{'0' * 16}.{os.getpid()}"
    dead.mkdir(parents=True)
    live.mkdir(parents=True)
    clinic.only("sdk_leftover")
    clinic.repaired("sdk_leftover")
    assert live.exists() and not dead.exists()


def test_an_offline_run_that_cannot_be_read(clinic: Clinic) -> None:
    state = clinic.home / "offline" / "OfflineRun_1" / "run.json"
    state.parent.mkdir(parents=True)
    state.write_text("{")
    os.utime(state.parent, (LONG_AGO, LONG_AGO))
    assert "OfflineRun_1" in clinic.left("offline_run_unreadable").where
    state.write_text(json.dumps({"id": "OfflineRun_1"}))
    assert clinic.doctor() == []


def test_temporary_files_of_dead_processes(clinic: Clinic) -> None:
    dead = clinic.home / f"interpreter.json.{dead_pid()}"
    live = clinic.home / f"interpreter.json.{os.getpid()}"
    for path in (dead, live, clinic.dir / "server" / "server.json.tmp"):
        path.write_text("{")
    assert [f.code for f in clinic.doctor()] == ["temporary_file"] * 2
    clinic.repaired("temporary_file", "temporary_file")
    assert live.exists() and not dead.exists()
