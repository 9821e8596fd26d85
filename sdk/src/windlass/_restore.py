"""Bring the files of a snapshot back to this machine."""

from __future__ import annotations

import os
import shutil
import tempfile

from windlass._files import fetch, inside
from windlass._transport.client import Client, quote
from windlass.errors import UserErrorException

_ZIP = ".zip"


def restore(client: Client, snapshot_id: str, path: str) -> str:
    """Write a snapshot's files to a folder, or into one file when ``path`` ends with ``.zip``; returns its full path.

    Raises:
        UserErrorException: there is no such snapshot, or the place cannot be written.
    """
    target = os.path.abspath(os.path.expanduser(path))
    try:
        if not target.endswith(_ZIP):
            _write(client, snapshot_id, target)
        else:
            with tempfile.TemporaryDirectory() as beside:
                _write(client, snapshot_id, beside)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.make_archive(target[: -len(_ZIP)], "zip", beside)
    except OSError as e:
        raise UserErrorException("%s cannot be written: %s." % (target, e.strerror or e)) from e
    return target


def _write(client: Client, snapshot_id: str, folder: str) -> None:
    files = client.get("/v1/snapshots/%s" % quote(snapshot_id))["files"]
    os.makedirs(folder, exist_ok=True)
    for file in files:
        target = inside(folder, file["path"])
        fetch(client, "/v1/blobs/", file["sha256"], target)
        os.chmod(target, file["mode"])
