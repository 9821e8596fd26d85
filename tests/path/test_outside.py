"""Logging into a run from a process that is no part of it, as v1 allowed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from windlass import Run
from windlass import Workspace as ClientWorkspace
from windlass.errors import RunEnvironmentException
from windlass.specs import spool
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace


def test_who_submitted_a_run_may_log_into_it(shared: Workspace, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    run_id = shared.submit("import signal; print('up', flush=True); signal.pause()")
    shared.wait_for_text(run_id, "up")
    run = Run.get(ClientWorkspace.get("test"), run_id)
    run.log("from_outside", 1)
    run.log_row("rows", x=1, y=2)
    assert run.get_metrics() == {"from_outside": 1, "rows": {"x": 1, "y": 2}}
    with pytest.raises(RunEnvironmentException, match="log_image"):
        run.log_image("picture", path=str(picture))
    run.cancel()
    assert shared.wait(run_id).status is RunStatus.CANCELED
    run.log("from_outside", 2)
    assert run.get_metrics("from_outside") == {"from_outside": [1, 2]}
    assert run.get_status() == "Canceled"


def test_what_was_logged_right_before_the_end_of_the_process_arrives(shared: Workspace) -> None:
    run_id = shared.submit("print(1)")
    shared.wait(run_id)
    code = (
        f"from windlass import *; r = Run.get(Workspace.get('test'), {run_id!r}); [r.log('x', i) for i in range(500)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert shared.values(run_id, "x") == list(range(500))


@pytest.mark.faults
def test_what_a_killed_process_left_is_brought_in_at_the_next_start(workspace: Workspace) -> None:
    run_id = workspace.submit("print(1)")
    workspace.wait(run_id)
    server = os.pidfd_open(workspace.server_pid())
    workspace.stop()
    assert select.select([server], [], [], 30)[0]
    os.close(server)
    folder = os.path.join(workspace.dir, "clients", run_id)
    os.makedirs(folder)
    frames = spool.series_frame(0, {"name": "x", "kind": "scalar"}) + spool.json_frame(
        0, 1, spool.NO_STEP, "last words"
    )
    with open(os.path.join(folder, f"4194304-1{spool.SUFFIX}"), "wb") as f:
        f.write(frames)
    assert workspace.values(run_id, "x") == ["last words"]
    assert not os.path.exists(folder)
