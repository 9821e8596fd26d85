"""``windlass data``, over a real server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Cli


def test_files_go_up_and_come_down(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(tmp_path / "data" / "deep")
    (tmp_path / "data" / "a.csv").write_text("a")
    (tmp_path / "data" / "deep" / "b.csv").write_text("bb")
    monkeypatch.chdir(tmp_path)
    assert cli("init", "ws").code == 0
    said = cli("data", "upload", str(tmp_path / "data"), "set")
    assert (said.code, said.out.splitlines()[-1]) == (0, "workspaceblobstore/set"), said.err
    said = cli("data", "upload", str(tmp_path / "data" / "a.csv"), "set")
    assert "Skipping upload for set/a.csv" in said.out
    found = cli("data", "list", "set/d", "--json").json
    assert [(f["path"], f["size"]) for f in found["files"]] == [("set/deep/b.csv", 2)]
    assert "set/a.csv" in cli("data", "list", "--files").out
    assert cli("data", "download", "set", str(tmp_path / "down")).code == 0
    assert (tmp_path / "down" / "set" / "deep" / "b.csv").read_text() == "bb"
    listed = cli("data").out
    assert "workspaceblobstore (default)" in listed and "workspacefilestore" in listed
    assert next(s["name"] for s in cli("data", "list", "--json").json["datastores"]) == "workspaceblobstore"
    said = cli("data", "list", "--datastore", "workspaceblob")
    assert said.code == 1 and "Did you mean 'workspaceblobstore'" in said.err
