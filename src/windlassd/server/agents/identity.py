"""What tells this workspace from its copies, on machines that serve several."""

from __future__ import annotations

import os
import uuid

from windlass.errors import ComputeTargetException

_NAME = "workspace-id"


def own_id(folder: str) -> str:
    """The workspace's id, made when it has none: 32 hex digits.

    A restored backup or a copied folder must not take the other's jobs for its own, and end them. So the id is no part
    of the database, and the file that holds it says which file it is: in a copy that is not true.

    Args:
        folder: The workspace's ``server`` folder.

    Raises:
        ComputeTargetException: it cannot be written down.
    """
    path = os.path.join(folder, _NAME)
    try:
        with open(path, encoding="utf-8") as f:
            known, inode = f.read().split()
            if inode == str(os.fstat(f.fileno()).st_ino):
                return known
    except (FileNotFoundError, ValueError):
        pass
    return _made(path)


def _made(path: str) -> str:
    beside, made = path + ".tmp", uuid.uuid4().hex
    try:
        with open(beside, "w", encoding="utf-8") as f:
            f.write(f"{made} {os.fstat(f.fileno()).st_ino}")
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except OSError as problem:
        raise ComputeTargetException(f"The workspace's id cannot be written to {path}: {problem}.") from problem
    return made
