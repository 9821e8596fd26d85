"""Snapshots: which files are taken, what stays out, and how much travels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdk.fake_server import FakeServer
from windlass import Workspace, _snapshot
from windlass._snapshot import list_files, take
from windlass.errors import SnapshotException, SnapshotTooLarge


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def taken(root: Path) -> list[str]:
    return [file.path for file in list_files(str(root)).files]


def test_secrets_caches_and_environments_never_travel(tmp_path: Path) -> None:
    fill(tmp_path, "train.py", "lib/util.py", ".git/HEAD", "__pycache__/x.pyc", ".env", "lib/.env.local", "key.pem",
         ".aws/credentials", ".azureml/config.json", ".ssh/id", "id_rsa", "myenv/pyvenv.cfg", "myenv/bin/python",
         "conda/conda-meta/history", "conda/lib/x", ".ipynb_checkpoints/n.ipynb")  # fmt: skip
    (tmp_path / ".amlignore").write_text("!.env\n")
    assert taken(tmp_path) == [".amlignore", "lib/util.py", "train.py"]


def test_amlignore_wins_over_gitignore(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "b.txt")
    (tmp_path / ".gitignore").write_text("a.txt\n")
    assert taken(tmp_path) == [".gitignore", "b.txt"]
    (tmp_path / ".amlignore").write_text("b.txt\n")
    assert taken(tmp_path) == [".amlignore", ".gitignore", "a.txt"]


def test_links_out_are_left_out_with_a_warning_and_links_within_are_copied(tmp_path: Path) -> None:
    root = tmp_path / "source"
    fill(root, "train.py", "data/x.csv", ".env")
    fill(tmp_path, "outside/secret")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "again").symlink_to(root / "data")
    (root / "data" / "loop").symlink_to(root)
    (root / "sly").symlink_to(root / ".env")
    with pytest.warns(UserWarning, match="is left out of the snapshot") as warned:
        files = taken(root)
    assert files == ["again/x.csv", "data/x.csv", "train.py"]
    assert len([w for w in warned if "out" in str(w.message)]) >= 3


def test_an_executable_file_stays_one(tmp_path: Path) -> None:
    fill(tmp_path, "run.sh", "plain")
    (tmp_path / "run.sh").chmod(0o700)
    assert [oct(f.mode) for f in list_files(str(tmp_path)).files] == ["0o644", "0o755"]


def test_too_large_names_the_largest_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_SNAPSHOT_MAX_MB", "1")
    fill(tmp_path, "small.py")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big.bin").write_bytes(bytes(2 << 20))
    with pytest.raises(SnapshotTooLarge, match=r"data/ \(2\.0 MB\), data/big\.bin \(2\.0 MB\).*\.amlignore") as caught:
        list_files(str(tmp_path))
    assert "a snapshot may have 1.0 MB" in str(caught.value)
    (tmp_path / ".amlignore").write_text("data/\n")
    assert taken(tmp_path) == [".amlignore", "small.py"]


def test_an_unreadable_name_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff.py")).write_text("x")
    with pytest.raises(SnapshotException, match="is not UTF-8"):
        list_files(str(tmp_path))


def test_contents_travel_once_in_batches(
    fake: FakeServer, ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_snapshot, "_BATCH_BYTES", 1000)
    fill(tmp_path, "a", "copy/a")
    (tmp_path / "copy" / "a").write_text("a")
    for n in range(5):
        (tmp_path / f"part{n}").write_bytes(bytes([n]) * 400)
    (tmp_path / "large").write_bytes(b"L" * 5000)
    snapshot_id = take(ws._client, list_files(str(tmp_path)).files)
    assert len(fake.snapshots[snapshot_id]) == 8
    assert len(fake.blobs) == 7, "equal contents travel once"
    assert max(fake.blob_posts) == 5040 and len(fake.blob_posts) >= 4
    assert take(ws._client, list_files(str(tmp_path)).files) == snapshot_id


def test_a_file_that_changes_meanwhile_is_an_error(fake: FakeServer, ws: Workspace, tmp_path: Path) -> None:
    fill(tmp_path, "a")
    files = list_files(str(tmp_path)).files
    (tmp_path / "a").write_text("longer")
    with pytest.raises(SnapshotException, match="changed while the snapshot was taken"):
        take(ws._client, files)
