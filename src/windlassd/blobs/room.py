"""The room that folders take on disk, and their removal whatever scripts left in them."""

from __future__ import annotations

import os
import stat
import time
import uuid

_BLOCK = 512
_TRIES, _PAUSE_S = 4, 0.05
_HOISTED = ".windlass-removed-"


def bytes_on_disk(*paths: str, seen: set[tuple[int, int]] | None = None) -> int:
    """What files and folders, with all below them, take on disk; a file with several names counts once, links little.

    What is gone, or closed to us, counts nothing. Calls that share ``seen`` count each file once among them.
    """
    seen = set() if seen is None else seen
    total, pending = 0, list(paths)
    while pending:
        path = pending.pop()
        try:
            state = os.lstat(path)
            folder = stat.S_ISDIR(state.st_mode)
            if state.st_nlink > 1 and not folder:
                if (state.st_dev, state.st_ino) in seen:
                    continue
                seen.add((state.st_dev, state.st_ino))
            total += state.st_blocks * _BLOCK
            if folder:
                pending.extend(entry.path for entry in os.scandir(path))
        except OSError:
            continue
    return total


def remove_tree(root: str) -> None:
    """Remove a folder with everything below it, however deep; nothing happens when there is none. May be repeated.

    Raises:
        OSError: something in it belongs to somebody else, or somebody goes on writing there.
    """
    for left in reversed(range(_TRIES)):
        try:
            if os.path.islink(root) or not os.path.isdir(root):
                os.unlink(root)
            else:
                _remove_folder(root)
            return
        except FileNotFoundError:
            if not os.path.lexists(root):
                return
        except OSError:  # an agent that has told the end of its run may be clearing up there in the same moment
            if not left:
                raise
        time.sleep(_PAUSE_S)


def _remove_folder(root: str) -> None:
    """Each folder is moved up to ``root`` and emptied there: no path gets too long, and nothing calls itself."""
    pending = [root]
    for folder in pending:
        os.chmod(folder, 0o700)  # scripts leave folders that not even their owner may enter
        for entry in list(os.scandir(folder)):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            above = os.path.join(root, f"{_HOISTED}{uuid.uuid4().hex}")
            os.rename(entry.path, above)
            pending.append(above)
    for folder in reversed(pending):
        os.rmdir(folder)
