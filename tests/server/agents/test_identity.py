from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from windlass.errors import ComputeTargetException
from windlassd.server.agents.identity import own_id


def test_a_workspace_keeps_its_id_also_when_it_is_moved(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    first = own_id(str(tmp_path / "server"))
    assert len(first) == 32 and own_id(str(tmp_path / "server")) == first
    os.rename(tmp_path / "server", tmp_path / "moved")
    assert own_id(str(tmp_path / "moved")) == first


def test_a_copy_gets_an_id_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    first = own_id(str(tmp_path / "server"))
    shutil.copytree(tmp_path / "server", tmp_path / "copy")
    assert own_id(str(tmp_path / "copy")) not in ("", first) and own_id(str(tmp_path / "server")) == first


@pytest.mark.parametrize("junk", [b"", b"one two three", b"\xff\xfe"])
def test_junk_is_replaced(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "workspace-id").write_bytes(junk)
    made = own_id(str(tmp_path))
    assert len(made) == 32 and own_id(str(tmp_path)) == made


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ComputeTargetException, match="id cannot be written"):
        own_id(str(tmp_path / "absent"))
