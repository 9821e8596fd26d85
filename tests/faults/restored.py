"""Restored backups held against the diaries of the runs that went on while they were made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import end_processes_of
from faults import diary as _diary
from faults.evidence import Witnessed, left_over
from windlass import _backups
from windlassd.testing.harness import Workspace

POINTS, LINES, FILES = 0, 1, 2
BUSY = """
import time
while True:
    diary.log(run, 7); diary.say(3); diary.keep(1)
    time.sleep(0.02)  # else half a million files lie there before the first backup is done
"""
"""A script that does all that is kept, until it is ended."""


def silent(phase: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def make(workspace: Workspace, folder: Path) -> _backups.Backup:
    """A backup by the server."""
    made = _backups.make(workspace.client, str(folder), None, silent)
    assert made["manifest"]["incomplete"] == []
    return _backups.find(made["backup"])[0]


@contextmanager
def restored(backup: _backups.Backup, home: Path) -> Iterator[Workspace]:
    """The workspace of a backup in another home, with a server of its own."""
    with pytest.MonkeyPatch.context() as patch:
        home.mkdir(exist_ok=True)
        patch.setenv("WINDLASS_HOME", str(home))
        made = _backups.restore(backup, None, False, silent)
        assert left_over(home) == [], "a restored workspace has nothing half done"
        workspace = Workspace(made.name)
        try:
            yield workspace
        finally:
            workspace.stop()
            workspace.client.close()
            end_processes_of(home)


class Seen:
    """What a run had surely done at one moment: the least that a backup begun then has."""

    def __init__(self, run: Witnessed) -> None:
        self.run = run
        self.done = [run.diary.done(channel) for channel in (POINTS, LINES, FILES)]

    def check(self, workspace: Workspace) -> None:
        """Hold the run in a restored workspace against it.

        Raises:
            AssertionError: Something is lost, doubled, out of order or damaged.
        """
        run_id, diary = self.run.id, self.run.diary
        record = workspace.get(run_id)
        assert record.status.final, record.status
        values = workspace.values(run_id, "loss")
        assert values == list(range(len(values)))
        assert self.done[POINTS] <= len(values) <= diary.begun(POINTS), (self.done, len(values))
        log = workspace.read(run_id, "azureml-logs/70_driver_log.txt")
        lines = re.findall(rb"^line \d{9} [0-9a-f]{32}\n", log, re.MULTILINE)
        assert lines == [_diary.line(i) for i in range(len(lines))]
        assert self.done[LINES] <= len(lines) <= diary.begun(LINES), (self.done, len(lines))
        kept = set(workspace.files(run_id))
        for i in range(self.done[FILES]):
            path = "outputs/" + _diary.file_name(i)
            assert path in kept, f"{path} is lost of {self.done}"
            assert workspace.read(run_id, path) == _diary.content(i, self.run.size), f"{path} is damaged"
