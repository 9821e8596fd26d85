"""An earlier backup's files, found by path in its index."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlass.specs.backup import INDEX_FILE, Entry
from windlassd.blobs import backup_index
from windlassd.blobs.backup_index import BackupIndex

ENTRIES = [Entry(f"w/runs/r{n}/é{n}", n, "0" * 64, identity=(1, n, 2)) for n in range(500)]
ENTRIES.append(Entry("w/" + os.fsdecode(b"caf\xe9"), 7))


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / INDEX_FILE).write_bytes(b"".join(entry.to_line() for entry in ENTRIES))
    return str(tmp_path)


@pytest.mark.parametrize("alike", [False, True])
def test_each_is_found_by_its_path_and_others_are_not(root: str, alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if alike:  # paths whose digests begin in the same way
        monkeypatch.setattr(backup_index, "_half", lambda path: len(path))
    index = BackupIndex(root)
    assert [index.find(entry.path) for entry in reversed(ENTRIES)] == ENTRIES[::-1]
    assert index.find("w/runs/r1/é2") is None and index.find("") is None
    index.close()


@pytest.mark.parametrize("text", [b"{", b"[]\n", b'{"path": "../x"}\n', b"\xff\n"])
def test_one_that_cannot_be_read_is_refused_at_once(root: str, text: bytes) -> None:
    with open(os.path.join(root, INDEX_FILE), "ab") as index:
        index.write(text)
    before = os.listdir("/proc/self/fd")
    with pytest.raises((ValueError, TypeError)):
        BackupIndex(root)
    assert len(os.listdir("/proc/self/fd")) == len(before)
