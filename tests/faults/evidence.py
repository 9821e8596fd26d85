"""Jobs that keep a diary, and a run's record held against it: nothing lost, nothing twice, nothing left over."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import textwrap
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults import diary as _diary
from faults.diary import Diary
from windlass.specs.run import RunRecord
from windlassd.agent.leftovers import processes_of
from windlassd.blobs.files import leftovers
from windlassd.doctor.alone import examine_alone
from windlassd.testing.harness import Workspace

_PROLOGUE = """\
import os, sys
from diary import Diary
diary = Diary(os.environ["DIARY"])
from azureml.core import Run
run = Run.get_context()
"""


class Witnessed:
    """A submitted run whose script keeps a diary (``diary`` and ``run`` are defined in it).

    Args:
        workspace: Where it runs.
        text: The script after the prologue.
        size: Bytes of each file that ``diary.keep`` writes.
    """

    def __init__(self, workspace: Workspace, folder: Path, text: str, *, size: int = 1000, **spec: Any) -> None:
        self.workspace = workspace
        self.diary = Diary.create(str(folder / f"{uuid.uuid4().hex}.diary"))
        self.size = size
        self.request_id = str(uuid.uuid4())
        self._files = {
            "train.py": (_PROLOGUE + textwrap.dedent(text)).encode(),
            "diary.py": Path(_diary.__file__).read_bytes(),
        }
        self._spec = spec
        self.id = ""

    def submit(self) -> Witnessed:
        """Submit it; a call that failed half-way may be made again and gives the same run."""
        variables = {"DIARY": self.diary.path, **self._spec.pop("environment_variables", {})}
        asked = {
            "experiment": "faults", "script": "train.py", "snapshot_id": self.workspace.snapshot(self._files),
            "environment_variables": variables,
            "environment": {"user_managed": True, "interpreter": sys.executable}, **self._spec,
        }  # fmt: skip
        self._spec["environment_variables"] = variables
        self.id = str(self.workspace.client.post("/v1/runs", {"request_id": self.request_id, "spec": asked})["id"])
        return self

    def check(self, *, status: str, reason: str | None = None, words: str | None = None) -> RunRecord:
        """Wait for the end and hold the record against the diary.

        Raises:
            AssertionError: Something is lost, doubled, out of order or damaged, or the end is told wrongly.
        """
        record = self.workspace.wait(self.id)
        assert record.status.value == status, (record.status, record.reason)
        if reason is not None:
            assert record.reason and record.reason.code == reason, record.reason
        assert record.reason and record.reason.message, "the end is not explained"
        assert words is None or words in record.reason.message, record.reason.message
        assert record.lost_points == 0, record.lost_points
        statuses = [entry["status"] for entry in record.history]
        assert statuses[-1] == status, statuses
        self.check_points()
        self.check_lines()
        self.check_files()
        assert not processes_of(self.id), "processes of the run are left"
        return record

    def check_points(self, name: str = "loss", channel: int = 0) -> None:
        """Every point once and in order."""
        values = self.workspace.values(self.id, name)
        done, begun = self.diary.done(channel), self.diary.begun(channel)
        assert values == list(range(len(values))), f"{name}: lost, doubled or out of order: {_first_wrong(values)}"
        assert done <= len(values) <= begun, f"{name}: {len(values)} points, the script logged {done} to {begun}"

    def check_writers(self, name: str, channels: Sequence[int], base: int) -> None:
        """Of a series that several wrote, every point once and each writer's in order.

        The writer of a channel logged from ``base`` times the channel on (``Diary.log``).
        """
        values = self.workspace.values(self.id, name)
        assert {value // base for value in values} <= set(channels), "points that nobody logged"
        for channel in channels:
            own = [value - channel * base for value in values if value // base == channel]
            done, begun = self.diary.done(channel), self.diary.begun(channel)
            assert own == list(range(len(own))), f"{name} of writer {channel}: {_first_wrong(own)}"
            assert done <= len(own) <= begun, f"writer {channel}: {len(own)} points, it logged {done} to {begun}"

    def check_lines(self, channel: int = 1) -> None:
        """Every printed line once and in order, whatever else stands in the log."""
        log = self.workspace.read(self.id, "azureml-logs/70_driver_log.txt")
        found = re.findall(rb"^line \d{9} [0-9a-f]{32}\n", log, re.MULTILINE)
        done, begun = self.diary.done(channel), self.diary.begun(channel)
        assert found == [_diary.line(i) for i in range(len(found))], "lines are lost, doubled or out of order"
        assert done <= len(found) <= begun, f"{len(found)} lines, the script printed {done} to {begun}"

    def check_files(self, channel: int = 2) -> None:
        """Every file that was closed is kept with its content, and the record's checksums are true."""
        kept = {f["path"]: f for f in self.workspace.client.get(f"/v1/runs/{self.id}/files")["files"]}
        for i in range(self.diary.done(channel)):
            path = "outputs/" + _diary.file_name(i)
            assert path in kept, f"{path} is lost"
            content = self.workspace.read(self.id, path)
            assert content == _diary.content(i, self.size), f"{path} is damaged"
            if kept[path].get("sha256"):
                assert kept[path]["sha256"] == hashlib.sha256(content).hexdigest(), f"{path}: wrong checksum"


def _first_wrong(values: list[Any]) -> str:
    place = next((i for i, value in enumerate(values) if value != i), len(values))
    return f"at {place} of {len(values)}: {values[max(0, place - 2) : place + 3]}"


MACHINE = {"disk_low", "disk_full", "gpu_hidden"}
"""Findings about the machine that the tests run on."""
_NEXT_SERVER = {"blob_leftover", "checksum_missing", "socket_stale", "environment_leftover", "temporary_file"}
"""What a killed server may leave, and the next one clears up by itself."""


def assert_sound(workspace: Workspace) -> None:
    """Hold the doctor's deepest examination against a workspace that is stopped: nothing may be wrong with it.

    ``workspace.stop()`` and ``wait_until_gone()`` come before; nothing is repaired or started.

    Raises:
        AssertionError: The doctor found something that is not left to the next server.
    """
    told: list[Any] = []
    found = examine_alone(workspace.dir, deep=True, tell=told.append)
    wrong = [f for f in found if f.code not in _NEXT_SERVER and f.code not in MACHINE]
    assert not wrong, "\n".join(f"{f.severity} {f.code} {f.where}: {f.detail}" for f in wrong)


_TEMPORARY = re.compile(
    r"\.(tmp|part|partial)$|/blobs/tmp/[0-9a-f]|/environments/building/.|\.spool(\.lost)?$|/work(/|$)"
)


def left_over(home: Path) -> list[str]:
    """Temporary files, work folders and unshipped spools that lie in a home and nobody owns; should be none.

    A server or agent that lives has a folder of its own for unfinished contents: that is nobody's leftover.
    """
    found = []
    for folder, folders, files in os.walk(home):
        if folder.endswith("/sdk"):
            folders.clear()
        elif folder.endswith("/blobs/tmp"):
            dead = leftovers(os.path.dirname(folder))
            folders[:] = [name for name in folders if os.path.join(folder, name) in dead]
        found += [path for name in [*folders, *files] if _TEMPORARY.search(path := os.path.join(folder, name))]
    return sorted(os.path.relpath(path, home) for path in found)
