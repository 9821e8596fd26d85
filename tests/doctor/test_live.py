"""The doctor beside a server at work: by its route, in its process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from windlass import _doctor
from windlass._doctor import examine
from windlass.specs.findings import Finding
from windlassd.doctor import examine as examination
from windlassd.doctor.patient import Patient, Problem
from windlassd.testing.harness import Workspace

LONG_AGO = 1_000_000_000
MACHINE = {"disk_low", "gpu_hidden", "disk_full"}


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    made = Workspace()
    yield made
    made.client.close()


def doctor(workspace: Workspace, **asked: bool) -> list[Finding]:
    lines = list(examine(workspace.dir, **asked))
    found = [Finding.from_wire(line["finding"]) for line in lines if "finding" in line]
    return [finding for finding in found if finding.code not in MACHINE]


def test_a_server_at_work_is_asked_and_nothing_is_found(workspace: Workspace) -> None:
    waits = workspace.submit("import sys; print('here', flush=True); open('gate').read()")
    held = workspace.submit("import time; print('here', flush=True); time.sleep(600)")
    workspace.wait(waits)
    workspace.wait_for_text(held, "here")
    pid = workspace.server_pid()
    assert doctor(workspace, deep=True) == []
    assert doctor(workspace, deep=True, repair=True) == []
    assert workspace.server_pid() == pid and workspace.get(held).status.value == "Running"
    workspace.client.post(f"/v1/runs/{held}/cancel", {})
    assert workspace.wait(held).verified or doctor(workspace) == []


def test_repairs_go_through_the_server(workspace: Workspace) -> None:
    done = workspace.submit("print('done')")
    workspace.wait(done)
    stray = Path(workspace.dir, "blobs", "ab", "c" * 62)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    os.utime(stray, (LONG_AGO, LONG_AGO))
    Path(workspace.dir, "runs", "whose_1").mkdir()
    found = doctor(workspace)
    assert [f.code for f in found] == ["blob_unused", "run_folder_orphan"]
    assert {f.state for f in doctor(workspace, repair=True)} == {"repaired"}
    assert not stray.exists() and Path(workspace.dir, "lost+found").is_dir()
    assert doctor(workspace, deep=True) == []


@pytest.mark.faults
def test_a_source_whose_content_was_lost_is_sent_again(workspace: Workspace) -> None:
    text = b"print('once more')"
    first = workspace.submit(text.decode())
    workspace.wait(first)
    sha256 = hashlib.sha256(text).hexdigest()
    blob = Path(workspace.dir, "blobs", sha256[:2], sha256[2:])
    blob.chmod(0o600)
    blob.write_bytes(b"damaged on the disk")
    found = {f.code: f.state for f in doctor(workspace, repair=True)}
    assert found == {"blob_damaged": "repaired", "snapshot_incomplete": "open"}
    assert workspace.wait(workspace.submit(text.decode())).status.value == "Completed"
    assert doctor(workspace, deep=True) == []


@pytest.mark.faults
def test_a_run_that_nobody_moves(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = workspace.submit("print('done')")
    workspace.wait(run_id)
    server = workspace.server_pid()
    with closing(sqlite3.connect(Path(workspace.dir, "windlass.db"), isolation_level=None)) as db:
        db.execute("UPDATE runs SET status = 'Running', ended = NULL")
        db.execute("DELETE FROM run_history WHERE status IN ('Finalizing', 'Completed')")
    assert {f.code for f in doctor(workspace)} >= {"run_unheld"}
    assert workspace.server_pid() == server


@pytest.mark.faults
def test_a_server_that_does_not_answer_is_told_of_and_nothing_is_repaired(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.wait(workspace.submit("print('done')"))
    Path(workspace.dir, "runs", "whose_1").mkdir()
    pid = workspace.server_pid()
    workspace.client.close()
    monkeypatch.setattr(_doctor, "_ANSWER_S", 0.5)
    os.kill(pid, signal.SIGSTOP)
    try:
        found = {f.code: f for f in doctor(workspace, repair=True)}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert set(found) == {"server_silent", "run_folder_orphan"} and str(pid) in found["server_silent"].detail
    assert found["run_folder_orphan"].state == "open"
    assert doctor(workspace)[0].code == "run_folder_orphan"


@pytest.mark.faults
def test_a_client_that_hangs_up_leaves_the_examination_to_its_end(workspace: Workspace) -> None:
    workspace.wait(workspace.submit("print('done')"))
    Path(workspace.dir, "runs", "whose_1").mkdir()
    body = json.dumps({"repair": True}).encode()
    answer = workspace.client.open("POST", "/v1/doctor", body=body, own_connection=True)
    assert "version" in json.loads(answer.readline())
    answer.close()
    assert doctor(workspace) == [], "it waits for its turn"
    assert Path(workspace.dir, "lost+found").is_dir()


def test_what_passes_is_no_finding(tmp_path: Path) -> None:
    """A finding must be there at every look; only then it is told."""
    looks: list[int] = []

    def check(patient: Patient) -> Iterator[Problem]:
        looks.append(1)
        yield Problem("tag_index", "stays", "It stays.")
        if len(looks) == 1:
            yield Problem("tag_index", "passes", "It passes.")

    told: list[Any] = []
    patient = Patient(str(tmp_path), str(tmp_path))
    waited: list[float] = []
    one = examination.Examination(patient, repair=False, tell=told.append, pause=waited.append)
    one._check(check)
    assert [found.where for found in one.findings] == ["stays"] and len(waited) == 2
    patient.alone = True
    looks.clear()
    one = examination.Examination(patient, repair=False, tell=told.append, pause=waited.append)
    one._check(check)
    assert [found.where for found in one.findings] == ["stays", "passes"] and len(waited) == 2
