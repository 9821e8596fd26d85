"""The working folder of a run, and the SDK for its job."""

from __future__ import annotations

import builtins
import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import windlass
from windlass import VERSION
from windlassd.agent.materialize import make_work_folder, sdk_folder
from windlassd.blobs import sdk_copy
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.run_folder import RunFolder

CONTENT = b"print('hello')\n"


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[FileBlobStore]:
    store = FileBlobStore(str(tmp_path / "blobs"))
    store.put([CONTENT], hashlib.sha256(CONTENT).hexdigest())
    yield store
    store.close()


def files(*paths: str) -> list[dict[str, object]]:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return [{"path": path, "sha256": digest, "size": len(CONTENT), "mode": 0o644} for path in paths]


def test_the_snapshot_with_real_outputs_and_logs(blobs: FileBlobStore, folder: RunFolder) -> None:
    make_work_folder(blobs, files("train.py", "lib/net.py"), folder)
    assert Path(folder.work, "lib/net.py").read_bytes() == CONTENT
    assert sorted(os.listdir(folder.work)) == ["lib", "logs", "outputs", "train.py"]
    assert os.stat(folder.work).st_mode & 0o777 == 0o700


def test_a_start_that_was_cut_short_is_begun_anew(blobs: FileBlobStore, folder: RunFolder) -> None:
    Path(folder.work, "outputs", "half").write_text("old")
    make_work_folder(blobs, files("train.py"), folder)
    assert os.listdir(Path(folder.work, "outputs")) == []


def test_outputs_in_the_snapshot_stay(blobs: FileBlobStore, folder: RunFolder) -> None:
    make_work_folder(blobs, files("outputs/seed.txt"), folder)
    assert os.listdir(Path(folder.work, "outputs")) == ["seed.txt"]


def test_just_the_two_packages(home: Path) -> None:
    path = Path(sdk_folder(str(home / "workspaces" / "ws")))
    modules = [name for name in sorted(os.listdir(path)) if not name.endswith(".dist-info")]
    assert path.parent == home / "sdk" and modules == ["azureml", "windlass"]
    assert (path / f"azureml_core-{VERSION}.dist-info" / "METADATA").is_file()
    assert not list(path.rglob("__pycache__")) and not list(path.rglob("*.pyc"))
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
         f"sys.path.insert(0, {str(path)!r}); import azureml.core, windlass; print(windlass.__file__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(path))


def test_equal_content_is_one_folder_and_other_content_another(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sdk_folder(str(home / "workspaces" / "ws"))
    inode = os.stat(first).st_ino
    assert sdk_folder(str(home / "workspaces" / "other")) == first and os.stat(first).st_ino == inode
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    monkeypatch.setattr(sdk_copy, "_package", lambda name: str(tmp_path / "pkg"))
    assert sdk_folder(str(home / "workspaces" / "ws")) != first
    assert len(os.listdir(home / "sdk")) == 2


def test_a_damaged_copy_is_made_anew(home: Path) -> None:
    copy = Path(sdk_folder(str(home / "workspaces" / "ws")))
    (copy / "windlass" / "run.py").unlink()
    (copy / "azureml" / "__init__.py").write_text("raise SystemExit")
    assert sdk_folder(str(home / "workspaces" / "ws")) == str(copy) and sdk_copy.is_intact(str(copy))
    assert os.listdir(home / "sdk") == [copy.name]


def test_racing_agents_publish_one_whole_copy(home: Path) -> None:
    code = f"from windlassd.agent.materialize import sdk_folder; print(sdk_folder({str(home / 'workspaces' / 'ws')!r}))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0].strip() for process in started}
    (path,) = paths
    assert os.listdir(home / "sdk") == [os.path.basename(path)]
    assert Path(path, "windlass", "run.py").read_bytes() == Path(windlass.__file__).with_name("run.py").read_bytes()


def test_nothing_stays_of_a_copy_that_a_full_disk_cut_short(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def opened(path: str, mode: str) -> IO[bytes]:
        if mode == "wb":
            written.append(path)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        return builtins.open(path, mode)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(sdk_copy, "open", opened, raising=False)
        sdk_folder(str(home / "workspaces" / "ws"))
    assert os.listdir(home / "sdk") == []
