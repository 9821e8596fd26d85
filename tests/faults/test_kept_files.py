"""The files of a run that ended survive a power loss, once the server has nothing more to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.evidence import Witnessed
from faults.power import Disk, holds
from faults.shim import MARK, Shim
from windlassd.testing.harness import Workspace


@pytest.mark.faults
@pytest.mark.parametrize("size", [1000, 20 << 20])  # checksums by the agent, and by the server after the end
def test_they_are_on_the_disk_when_the_server_stops(
    size: int, workspace: Workspace, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.agent_pid()  # both have come, and made what they need
    workspace.stop()
    workspace.wait_until_gone()
    before = Disk(home)
    shim = Shim(tmp_path, home, record=True)
    for name, value in shim.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "0.2")
    run = Witnessed(workspace, tmp_path, "diary.log(run, 20); diary.say(50); diary.keep(2)", size=size).submit()
    workspace.wait(run.id)
    workspace.wait_until_gone()
    for operation in shim.operations():
        if operation.kind != MARK:
            before.apply(operation)
    after = tmp_path / "after"
    before.save(after, 0.0)
    kept = Path(workspace.dir).relative_to(home) / "runs" / run.id / "files"
    assert {path: (after / kept / path).read_bytes() for path in holds(after / kept)} == {
        path: (home / kept / path).read_bytes() for path in holds(home / kept)
    }
    assert len(holds(home / kept)) >= 3
