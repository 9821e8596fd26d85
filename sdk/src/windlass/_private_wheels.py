"""Wheels that a workspace keeps for its environments: v1's private pip wheels."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from typing import TYPE_CHECKING

from windlass.errors import UserErrorException

if TYPE_CHECKING:
    from windlass.workspace import Workspace

_FOLDER = "private_pip_wheels"
_WHEEL = re.compile(r"[^-]+-[^-]+(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl\Z")


def add(workspace: "Workspace", file_path: str, exist_ok: bool) -> str:
    """The address of a wheel that is now in the workspace's default datastore; see ``Environment``."""
    from pathlib import Path

    from windlass.datastore import Datastore

    if not isinstance(file_path, (str, os.PathLike)):
        raise UserErrorException("file_path=%r must be the path of a wheel." % (file_path,))
    place = os.path.abspath(os.path.expanduser(file_path))
    name, content = os.path.basename(place), _checked(place)
    store = Datastore.get_default(workspace)
    known = [file["path"] for file in store._files(_FOLDER + "/") if os.path.basename(file["path"]) == name]
    if known and not exist_ok:
        raise UserErrorException(
            "The workspace has a wheel %s already (%s). Give exist_ok=True, or give the wheel another version."
            % (name, ", ".join(known))
        )
    folder = "%s/%s" % (_FOLDER, content[:16])  # each content has an address of its own, so that no lock goes stale
    if "%s/%s" % (folder, name) not in known:
        store.upload_files([place], target_path=folder, show_progress=False)
    return Path(store.root, folder, name).as_uri()


def _checked(place: str) -> str:
    """SHA-256 of a wheel.

    Raises:
        UserErrorException: it is none.
    """
    name = os.path.basename(place)
    if not os.path.isfile(place):
        raise UserErrorException("file_path=%r is no file." % place)
    if not _WHEEL.match(name):
        raise UserErrorException(
            "file_path=%r is not named like a wheel, such as mine-1.0-py3-none-any.whl. Build one with "
            "`pip wheel --no-deps .`." % place
        )
    try:
        with zipfile.ZipFile(place) as wheel:
            whole = any(entry.endswith(".dist-info/METADATA") for entry in wheel.namelist())
    except (OSError, zipfile.BadZipFile) as problem:
        raise UserErrorException("file_path=%r is no wheel: %s." % (place, problem)) from problem
    if not whole:
        raise UserErrorException("file_path=%r is no wheel: it has no METADATA." % place)
    digest = hashlib.sha256()
    with open(place, "rb") as f:
        for chunk in iter(lambda: f.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
