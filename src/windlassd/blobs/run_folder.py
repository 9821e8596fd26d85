"""A run's folder on this machine, which is also its place in the history (DESIGN decision 4).

::

    runs/<run id>/
        work/       the script's working folder: its snapshot, and real ``outputs/`` and ``logs/``
        files/      everything else that is kept: uploads, ``azureml-logs/``; after the end also ``outputs/``, ``logs/``
        spool/      metric points on their way into the store
        agent/      what the agent must know if it starts again
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from windlass.errors import UserErrorException, did_you_mean
from windlassd.blobs.datastore_folder import PART

LIVE = ("outputs", "logs")
"""Folders of the script's working folder that are kept."""
SYSTEM = ("azureml-logs/", "user_logs/")
"""Folders that only Windlass writes."""
DRIVER_LOG = "azureml-logs/70_driver_log.txt"
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
_BESIDE = ".windlass-link"
_CLOCK_SLACK_S = 0.05  # file times come from a clock that ticks every few milliseconds
_LONGEST_NAME, _LONGEST_PATH = 240, 2000
_ALIASES = (("user_logs/std_log", "azureml-logs/70_driver_log"),)


class RunFolder:
    """Paths and kept files of one run. No path that comes out leads out of the folder."""

    def __init__(self, workspace_dir: str, run_id: str) -> None:
        if not run_id or "/" in run_id or run_id.startswith("."):
            raise UserErrorException(f"{run_id!r} is not the id of a run.")
        self.root = os.path.join(workspace_dir, "runs", run_id)
        self.work = os.path.join(self.root, "work")
        self.files = os.path.join(self.root, "files")
        self.spool = os.path.join(self.root, "spool")
        self.agent = os.path.join(self.root, "agent")

    def make(self) -> None:
        """Create the folders that exist before anything of the run does."""
        for path in (self.files, os.path.join(self.files, "azureml-logs"), self.spool, self.agent):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def log(self, name: str) -> str:
        """Path of a log or upload for writing; its folder exists afterwards.

        Raises:
            UserErrorException: the name leads outside.
        """
        path = os.path.join(self.files, *_parts(name))
        if not _inside(os.path.dirname(path), self.files):
            raise UserErrorException(f"The file name {name!r} leads out of the run's folder.")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def find(self, name: str) -> str | None:
        """Path of a kept file, or None when the run has none of that name (or it leads outside)."""
        for alias, real in _ALIASES:
            if name.startswith(alias):
                name = real + name[len(alias) :]
        parts = _parts(name)
        for root in (self.files, self.work) if parts[0] in LIVE else (self.files,):
            path = os.path.join(root, *parts)
            if os.path.isfile(path) and _inside(path, root):
                return path
        return None

    def get(self, name: str) -> str:
        """As ``find``; raises UserErrorException with near matches when there is none."""
        path = self.find(name)
        if path is None:
            known = [f["path"] for f in self.list()]
            hint = did_you_mean(name, known) or (
                f" It has: {', '.join(known[:10])}{', …' if len(known) > 10 else ''}." if known else " It has none yet."
            )
            raise UserErrorException(f"The run has no file {name!r}.{hint}", error_code="user_error")
        return path

    def list(self) -> Sequence[Mapping[str, Any]]:
        """``{"path", "size"}`` of every kept file, by path. Links that lead outside are left out."""
        found = dict(_walk(self.files, self.files, ""))
        for name in LIVE:
            folder = os.path.join(self.work, name)
            if not os.path.islink(folder):  # else "inside" would mean inside of wherever it leads
                for path, size in _walk(folder, folder, name):
                    found.setdefault(path, size)
        return [{"path": path, "size": found[path]} for path in sorted(found)]

    def left_from_before(self, name: str, since: float) -> bool:
        """True for a file of ``outputs`` or ``logs`` in the working folder that was last written before ``since``.

        The working folder of an interactive run is a client's own, where earlier runs left theirs.
        """
        path = self.find(name)
        if path is None or not path.startswith(self.work + os.sep):
            return False
        try:
            return os.path.getmtime(path) < since - _CLOCK_SLACK_S
        except OSError:  # gone meanwhile
            return True

    def logs(self) -> Sequence[str]:
        """Names of the system logs, in the order they are shown."""
        folder = os.path.join(self.files, "azureml-logs")
        try:
            return sorted(f"azureml-logs/{e.name}" for e in os.scandir(folder) if e.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def keep_live(self) -> Sequence[str]:
        """Move ``outputs`` and ``logs`` beside the other kept files, without copying. May be repeated.

        Returns:
            Sentences on what could not be kept as it was.
        """
        notes: list[str] = []
        for name in LIVE:
            source, target = os.path.join(self.work, name), os.path.join(self.files, name)
            if os.path.islink(source):
                notes.append(f"{name} is a link to {os.readlink(source)}; what lies there is not kept.")
            elif os.path.isdir(source):
                _open_up(source)
                _rename_bytes(source, notes)
                _settle_links(source, source)
                if os.path.isdir(target):  # files were uploaded under that name while the run went
                    _merge(source, target, name, notes)
                else:
                    os.rename(source, target)
        return notes

    def seal(self) -> None:
        """Make the kept files read-only and remove what only the running job needed. May be repeated."""
        for path, _ in _walk(self.files, self.files, ""):
            full = os.path.join(self.files, path)
            state = os.lstat(full)
            mode = stat.S_IMODE(state.st_mode)
            if mode & 0o222 and stat.S_ISREG(state.st_mode) and state.st_nlink == 1:  # else it is somebody else's, too
                os.chmod(full, mode & ~0o222)
        if os.path.islink(self.work):  # an interactive run's: a client's own folder, which is not ours to empty
            os.unlink(self.work)
        for folder in (self.work, self.spool, self.agent):
            shutil.rmtree(folder, ignore_errors=True)


def sha256_of(path: str) -> str:
    """SHA-256 of a file, as hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _parts(name: str) -> list[str]:
    parts = name.replace("\\", "/").split("/")
    parts = [p for p in parts if p not in ("", ".")]
    if not parts or ".." in parts or name.startswith("/") or "\0" in name:
        raise UserErrorException(f"{name!r} is not the name of a run's file: it must be relative, without '..'.")
    if len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(p)) > _LONGEST_NAME for p in parts):
        raise UserErrorException(
            f"The file name {name[:60]!r}… is too long: at most {_LONGEST_NAME} bytes a part, {_LONGEST_PATH} in all."
        )
    return parts


def _inside(path: str, root: str) -> bool:
    real, base = os.path.realpath(path), os.path.realpath(root)
    return real == base or real.startswith(base + os.sep)


def _walk(folder: str, root: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # removed meanwhile, or closed to us, or a path too long for the kernel
        return
    for entry in entries:
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if not _is_text(entry.name):  # shown once the run has ended, under a name that can be told
            continue
        if entry.name.endswith(PART):  # an upload under way, or cut short by a kill
            continue
        try:
            if entry.is_symlink():
                if _inside(entry.path, root) and entry.is_file():
                    yield name, entry.stat().st_size
            elif entry.is_dir():
                yield from _walk(entry.path, root, name)
            elif entry.is_file():
                yield name, entry.stat().st_size
        except OSError:
            continue


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rename_bytes(folder: str, notes: list[str]) -> None:
    """Give names that are no UTF-8 one that is, with the odd bytes as ``%E9``."""
    for entry in list(os.scandir(folder)):
        path = entry.path
        if not _is_text(entry.name):
            name = "".join(c if _is_text(c) else f"%{ord(c) - 0xDC00:02X}" for c in entry.name)
            path = os.path.join(folder, name)
            os.rename(entry.path, path)
            notes.append(f"A file name that is not UTF-8 became {name!r}.")
        if entry.is_dir(follow_symlinks=False):
            _rename_bytes(path, notes)


def _settle_links(folder: str, root: str) -> None:
    """Turn links to files of the same folder into those files (hard links): their targets are about to move."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _settle_links(entry.path, root)
        elif entry.is_symlink() and _inside(entry.path, root) and entry.is_file():
            beside = entry.path + _BESIDE
            if os.path.lexists(beside):  # an agent was killed right here
                os.unlink(beside)
            os.link(os.path.realpath(entry.path), beside)
            os.replace(beside, entry.path)


def _open_up(folder: str) -> None:
    """Let the owner read everything below ``folder``: scripts write files that not even they may read."""
    os.chmod(folder, os.stat(folder).st_mode | 0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _open_up(entry.path)
        elif entry.is_file(follow_symlinks=False):
            mode = entry.stat(follow_symlinks=False).st_mode
            if not mode & 0o400:
                os.chmod(entry.path, stat.S_IMODE(mode) | 0o400)


def _merge(source: str, target: str, name: str, notes: list[str]) -> None:
    """Move what lies in ``source`` into ``target``; of two files of one name the script's stays."""
    for entry in os.scandir(source):
        there, shown = os.path.join(target, entry.name), f"{name}/{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder and os.path.isdir(there):
            _merge(entry.path, there, shown, notes)
            continue
        if os.path.lexists(there) and is_folder != os.path.isdir(there):  # a file and a folder of one name
            os.rename(there, f"{there}.uploaded")
            notes.append(f"{shown} was uploaded and is a folder (or file) too; the upload is {shown}.uploaded.")
        os.replace(entry.path, there)
    os.rmdir(source)
