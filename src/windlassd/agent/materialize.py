"""Prepare a run's folder on this node: the snapshot in ``work/`` and the SDK that the job imports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from windlassd.blobs.base import BlobStore
from windlassd.blobs.run_folder import LIVE, RunFolder
from windlassd.blobs.sdk_copy import sdk_copy
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
    return sdk_copy(os.path.join(os.path.dirname(os.path.dirname(workspace_dir)), "sdk"))
