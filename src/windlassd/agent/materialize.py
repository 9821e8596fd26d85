"""Prepare a run's folder on this node: the snapshot in ``work/`` and the SDK that the job imports."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from windlassd.blobs.base import BlobStore
from windlassd.blobs.run_folder import LIVE, RunFolder
from windlassd.blobs.snapshots import materialize


def make_work_folder(blobs: BlobStore, files: Sequence[Mapping[str, Any]], folder: RunFolder) -> None:
    """Put the snapshot into ``work/``, with real ``outputs/`` and ``logs/`` before the first line of the script."""
    if os.path.isdir(folder.work):  # a start that was cut short
        shutil.rmtree(folder.work)
    os.makedirs(folder.work, mode=0o700)
    materialize(blobs, files, folder.work)
    for name in LIVE:
        os.makedirs(os.path.join(folder.work, name), exist_ok=True)


def sdk_folder(workspace_dir: str) -> str:
    """A folder with just ``windlass`` and ``azureml``, to be put on a job's PYTHONPATH.

    The SDK may lie among the server's own packages, which must not reach the job; so it is copied once per content.
    """
    sources = {name: _package(name) for name in ("windlass", "azureml")}
    digest = hashlib.sha256()
    files = []
    for name, root in sources.items():
        for path in sorted(_python_files(root)):
            relative = os.path.join(name, os.path.relpath(path, root))
            with open(path, "rb") as f:
                content = f.read()
            digest.update(f"{relative}\0{len(content)}\0".encode() + content)
            files.append((relative, content))
    target = os.path.join(os.path.dirname(os.path.dirname(workspace_dir)), "sdk", digest.hexdigest()[:16])
    if not os.path.isdir(target):
        _publish(files, target)
    return target


def _publish(files: Sequence[tuple[str, bytes]], target: str) -> None:
    beside = f"{target}.{os.getpid()}"
    for relative, content in files:
        path = os.path.join(beside, relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content)
    try:
        os.rename(beside, target)
    except OSError:  # another agent was quicker
        shutil.rmtree(beside)
        if not os.path.isdir(target):
            raise


def _package(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed beside windlassd"
    return os.path.dirname(spec.origin)


def _python_files(root: str) -> list[str]:
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if n != "__pycache__"]
        found += [os.path.join(folder, f) for f in files if not f.endswith((".pyc", ".pyo"))]
    return found
