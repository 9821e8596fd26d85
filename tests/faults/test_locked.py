"""Another program holds the database: words with its name, reads as ever, and nothing is lost once it lets go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.evidence import Witnessed, left_over
from windlass.errors import AzureMLException
from windlassd.store import _sqlite
from windlassd.store.base import StoreError
from windlassd.store.sql import FILE, SqlStore
from windlassd.testing.harness import Workspace

_HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Somebody else's process has the write lock; its id."""
    command = [sys.executable, "-c", _HOLD, str(folder / FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        try:
            yield holder.pid
        finally:
            holder.kill()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    monkeypatch.setattr(_sqlite, "_SETTINGS", (*_sqlite._SETTINGS, "PRAGMA busy_timeout=100"))
    opened = SqlStore.open(str(tmp_path))
    yield opened
    opened.close()


def test_it_is_named_and_whoever_waited_is_told_at_once(store: SqlStore, tmp_path: Path) -> None:
    store.write(lambda w: w.set_meta("a", "before")).result()
    with _locked(tmp_path) as pid:
        refused = [store.write(lambda w, n=n: w.set_meta("a", n)) for n in "123456789"]  # type: ignore[misc]
        for future in refused:
            with pytest.raises(StoreError, match=rf"locked by python[0-9.]* \(process {pid}\).*Close what") as caught:
                future.result()
            assert caught.value.transient
        assert store.read(lambda r: r.get_meta("a")) == "before"
    store.write(lambda w: w.set_meta("a", "after")).result()
    assert store.read(lambda r: r.get_meta("a")) == "after"


def test_a_second_store_cannot_be_opened_for_ever_and_says_why(store: SqlStore, tmp_path: Path) -> None:
    with _locked(tmp_path) as pid, pytest.raises(StoreError, match=f"process {pid}"):
        SqlStore.open(str(tmp_path))


@pytest.mark.faults
def test_a_run_goes_on_and_all_of_it_is_recorded_afterwards(workspace: Workspace, home: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = f"""
        import time
        diary.log(run, 100)
        diary.say(10)
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.02)
        diary.log(run, 5000)
        diary.say(10)
        diary.keep(3)
        """
    run = Witnessed(workspace, tmp_path, text).submit()
    workspace.wait_for_text(run.id, "line 000000009")
    with _locked(Path(workspace.dir)) as pid:
        gate.touch()
        with pytest.raises(AzureMLException, match=f"process {pid}"):  # as long as the database waits for its lock
            workspace.client.patch("/v1/experiments/other", {"tags": {"a": "b"}})
        assert workspace.client.get(f"/v1/runs/{run.id}")["status"] == "Running"
        assert len(workspace.values(run.id, "loss")) <= 100
    run.check(status="Completed", reason="completed")
    workspace.stop()
    workspace.wait_until_gone()
    assert left_over(home) == []


@pytest.mark.faults
def test_a_server_that_cannot_start_says_why_and_starts_afterwards(workspace: Workspace) -> None:
    workspace.agent_pid()
    workspace.stop()
    workspace.wait_until_gone()
    with _locked(Path(workspace.dir)) as pid, pytest.raises(AzureMLException, match=rf"\(process {pid}\)"):
        workspace.server_pid()
    assert workspace.server_pid() > 0
