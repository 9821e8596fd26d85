"""A folder of data: a datastore, or a folder of this machine that a dataset names. No path leads out of it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from windlass.errors import UserErrorException, did_you_mean
from windlass.specs.data import fixed_part, is_pattern, pattern_expression

PART = ".windlass-part"
"""Beside a file that is being written; such files are no data."""
_LONGEST_NAME, _LONGEST_PATH = 240, 2000


class DatastoreFolder:
    """The files below ``root``.

    Args:
        root: The folder.
        shown: What messages call it.
        links_out: Whether links in it may lead elsewhere: so for folders that users name themselves.
    """

    def __init__(self, root: str, shown: str, *, links_out: bool = False) -> None:
        self.root = os.path.realpath(root)
        self.shown = shown
        self._links_out = links_out

    def place(self, path: str) -> str:
        """Absolute path of a file or folder of the datastore, which need not exist.

        Raises:
            UserErrorException: the path leads out of the datastore, by itself or through a link.
        """
        full = os.path.join(self.root, *parts_of(path, self.shown))
        real = os.path.realpath(full)
        if real != self.root and not self._leads_inside(full):
            raise UserErrorException(
                f"The path {path!r} leads out of {self.shown} through a link, to {real}. Only what lies below "
                f"{self.root} is data of it."
            )
        return full

    def file(self, path: str) -> str:
        """Absolute path of a file that exists.

        Raises:
            UserErrorException: there is none; near matches are named.
        """
        full = self.place(path)
        if not os.path.isfile(full):
            known = [str(entry["path"]) for entry in self.list(path.rpartition("/")[0])][:2000]
            hint = did_you_mean(path, known) or (f" It has: {', '.join(known[:10])}." if known else "")
            raise UserErrorException(f"{self.shown} has no file {path!r}.{hint}")
        return full

    def list(self, prefix: str = "") -> Sequence[Mapping[str, Any]]:
        """``{"path", "size", "modified"}`` of the files whose paths begin with ``prefix``, by path.

        Links that lead out of the datastore are left out.
        """
        parts = parts_of(prefix, self.shown)
        folder = "/".join(parts)
        if not os.path.isdir(os.path.join(self.root, folder)):
            folder = "/".join(parts[:-1])
        try:
            start = self.place(folder)
        except UserErrorException:
            return []
        wanted = "/".join(parts)
        found = [entry for entry in self._walk(start, folder) if entry["path"].startswith(wanted)]
        return sorted(found, key=lambda entry: str(entry["path"]))

    def match(self, path: str, *, pattern: bool = True) -> Sequence[tuple[str, str]]:
        """``(relative, absolute)`` of the files at ``path``: a file, all below a folder, or what a pattern matches.

        ``relative`` begins where the files differ: below the folder, or below the part of a pattern that is fixed.
        """
        path = "/".join(parts_of(path, self.shown))
        pattern = pattern and is_pattern(path)
        base = fixed_part(path) if pattern else path
        full = self.place(base)
        if os.path.isfile(full):
            return [(os.path.basename(full), full)]
        expression = re.compile(pattern_expression(path)) if pattern else None
        cut = len(base) + 1 if base else 0
        return [
            (entry["path"][cut:], os.path.join(self.root, entry["path"]))
            for entry in sorted(self._walk(full, base), key=lambda e: str(e["path"]))
            if expression is None or expression.match(entry["path"])
        ]

    def target(self, path: str) -> str:
        """Absolute path to write a file to; its folder exists afterwards."""
        if not parts_of(path, self.shown):
            raise UserErrorException(f"A file of {self.shown} needs a name.")
        full = self.place(path)
        if os.path.isdir(full):
            raise UserErrorException(f"{path!r} is a folder of {self.shown}; a file cannot take its place.")
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
        except (FileExistsError, NotADirectoryError) as e:
            raise UserErrorException(f"A folder of {path!r} is a file of {self.shown}.") from e
        return full

    def _walk(self, folder: str, prefix: str) -> Iterator[dict[str, Any]]:
        try:
            entries = list(os.scandir(folder))
        except OSError:  # removed meanwhile, or closed to us
            return
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            try:
                if entry.is_symlink() and not self._leads_inside(entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(entry.path, path)
                elif entry.is_file() and not entry.name.endswith(PART):
                    known = entry.stat()
                    yield {"path": path, "size": known.st_size, "modified": known.st_mtime}
            except OSError:
                continue

    def _leads_inside(self, path: str) -> bool:
        return self._links_out or os.path.realpath(path).startswith(self.root.rstrip(os.sep) + os.sep)


def parts_of(path: str, shown: str) -> Sequence[str]:
    """The names in a path below ``shown``.

    Raises:
        UserErrorException: it leads outside, or is too long for the kernel.
    """
    parts = [p for p in path.replace("\\", "/").split("/") if p not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise UserErrorException(f"{path!r} is no path in {shown}: it must be relative, without '..'.")
    if len(os.fsencode(path)) > _LONGEST_PATH or any(len(os.fsencode(p)) > _LONGEST_NAME for p in parts):
        raise UserErrorException(
            f"The path {path[:60]!r}… is too long: at most {_LONGEST_NAME} bytes a part, {_LONGEST_PATH} in all."
        )
    return parts


def copy(source: str, target: str) -> None:
    """Copy a file whole, or not at all, as quickly as the file systems allow."""
    beside = f"{target}.{secrets.token_hex(4)}{PART}"
    try:
        shutil.copy2(source, beside)
        os.replace(beside, target)
    finally:
        if os.path.lexists(beside):
            os.unlink(beside)
