"""The machine around a workspace."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from doctor.conftest import Clinic
from windlass import _microsoft
from windlassd.compute import _gpus
from windlassd.doctor import alone, machine
from windlassd.doctor.patient import Patient


@pytest.fixture
def patient(clinic: Clinic) -> Patient:
    return Patient(str(clinic.dir), str(clinic.home), alone=True)


@pytest.mark.parametrize("which", ["home", "workspaces/test", "workspaces/test/server"])
def test_a_folder_that_others_may_enter_is_closed(clinic: Clinic, which: str) -> None:
    folder = clinic.home if which == "home" else clinic.home / which
    folder.chmod(0o755)
    assert clinic.only("folder_open").where == str(folder)
    clinic.repaired("folder_open")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_somebody_else(clinic: Clinic, monkeypatch: pytest.MonkeyPatch, patient: Patient) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert {found.code for found in machine.folders(patient)} == {"folder_closed"}


def test_a_folder_that_may_not_be_written(clinic: Clinic, patient: Patient) -> None:
    clinic.dir.chmod(0o500)
    try:
        assert [found.code for found in machine.folders(patient)] == ["folder_closed"]
    finally:
        clinic.dir.chmod(0o700)


def test_a_stale_socket_goes_when_nobody_runs(clinic: Clinic) -> None:
    path = clinic.dir / "server" / "server.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    assert not clinic.only("socket_stale").is_problem
    clinic.repaired("socket_stale")
    assert not path.exists()


def test_a_folder_in_the_place_of_the_socket(clinic: Clinic) -> None:
    (clinic.dir / "server" / "server.sock").mkdir()
    assert clinic.left("socket_blocked").is_problem


@pytest.mark.parametrize(("free", "inodes", "code"), [(1 << 20, 10**6, "disk_full"), (1 << 29, 10**6, "disk_low"),
                                                      (1 << 40, 10, "disk_full"), (1 << 40, 5000, "disk_low"),
                                                      (1 << 40, 10**6, None)])  # fmt: skip
def test_room_and_inodes(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, code: str | None
) -> None:
    room = namedtuple("room", "f_bavail f_frsize f_favail f_files")(free, 1, inodes, 10**7)
    monkeypatch.setattr(os, "statvfs", lambda path: room)
    assert {found.code for found in machine.file_systems(patient)} == ({code} if code else set())


def test_a_network_file_system(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"1 1 0:1 / {patient.home} rw - nfs server:/home rw\n"
    monkeypatch.setattr("windlassd.store.filesystem._mountinfo", lambda: mounts)
    assert "network_file_system" in {found.code for found in machine.file_systems(patient)}


def test_an_agent_that_does_not_come(patient: Patient) -> None:
    class Moment:
        failures = 2

        def agent_failures(self) -> int:
            return self.failures

    patient.live = moment = Moment()  # type: ignore[assignment]
    assert list(machine.agent(patient)) == []
    moment.failures = 3
    (found,) = machine.agent(patient)
    assert found.code == "agent_missing" and "3 times" in found.detail


def test_a_clock_behind_the_records(clinic: Clinic) -> None:
    clinic.sql("UPDATE runs SET created = created + 3600000000, ended = ended + 3600000000 WHERE id = ?", clinic.good)
    assert clinic.left("clock_behind").where == "clock"


def test_a_gpu_without_its_driver(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpus, "installed", lambda: ())
    for name, vendor, kind in (("a", "0x10de", "0x030200"), ("b", "0x8086", "0x030000"), ("c", "0x10de", "0x040300")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    (found,) = machine.gpus(patient, tmp_path)
    assert found.code == "gpu_hidden" and "1 NVIDIA" in found.detail
    monkeypatch.setattr(_gpus, "installed", lambda: (0,))
    assert list(machine.gpus(patient, tmp_path)) == []


def test_microsofts_package_and_a_missing_uv(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "azureml_core-1.61.0.dist-info"
    theirs.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert _microsoft.find_microsoft() == str(theirs)
    assert [found.code for found in machine.installation(patient)] == ["microsoft_sdk"]
    theirs.rmdir()

    def absent() -> str:
        raise FileNotFoundError("uv")

    monkeypatch.setattr("uv.find_uv_bin", absent)
    assert [found.code for found in machine.installation(patient)] == ["uv_missing"]


def test_a_setting_that_cannot_be(clinic: Clinic) -> None:
    (clinic.home / "settings.json").write_text('{"server_idle_s": "soon"}')
    assert "soon" in clinic.left("settings_invalid").detail


def test_a_process_of_an_ended_run_is_killed_and_no_other(clinic: Clinic) -> None:
    def job(run_id: str) -> subprocess.Popen[bytes]:
        carried = {"WINDLASS_WORKSPACE_DIR": str(clinic.dir), "AZUREML_RUN_ID": run_id}
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"], env={**os.environ, **carried},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    ended, another = job(clinic.good), job("test_1_going")
    for process in (ended, another):
        assert process.stdout and process.stdout.readline() == b"\n"
    try:
        assert clinic.only("process_leftover").where == f"pid {ended.pid}"
        clinic.repaired("process_leftover")
        assert ended.wait() == -signal.SIGKILL and another.poll() is None
    finally:
        for process in (ended, another):
            process.kill()
            process.communicate()


def test_a_server_whose_lock_file_was_deleted_still_has_its_workspace(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_WAIT_S", 0.0)
    (clinic.dir / "runs" / "whose_1").mkdir()
    held = os.open(clinic.dir, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = {finding.code: finding.state for finding in clinic.doctor(repair=True)}
    finally:
        os.close(held)
    assert found == {"server_silent": "open", "run_folder_orphan": "open"}
