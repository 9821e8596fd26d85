"""What of a part's working folder would be kept if it ended now: its files by the names that they are kept under."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.run_folder import LIVE, RunFolder


@dataclass(frozen=True)
class Seen:
    """A regular file, with one look at it."""

    name: str
    path: str
    inode: int
    size: int
    modified_ns: int
    mode: int
    sparse: bool

    @classmethod
    def of(cls, name: str, path: str, state: os.stat_result) -> Seen:
        """What a look shows."""
        sparse = state.st_blocks * 512 < state.st_size
        return cls(name, path, state.st_ino, state.st_size, state.st_mtime_ns, stat.S_IMODE(state.st_mode), sparse)

    @property
    def identity(self) -> tuple[int, int, int]:
        """What another content would not have in common with it."""
        return self.inode, self.size, self.modified_ns


def live(folder: RunFolder) -> Mapping[str, Seen]:
    """Files of ``outputs`` and ``logs`` while the run goes, by name. Links inside count as what they lead to."""
    return {seen.name: seen for name in LIVE for seen in _files(os.path.join(folder.work, name), name)}


def kept(folder: RunFolder) -> Mapping[str, Seen]:
    """All that a part keeps that has ended, by name; system logs too."""
    found = {}
    for file in folder.list():
        name = str(file["path"])
        path = os.path.join(folder.files, name)
        try:
            found[name] = Seen.of(name, path, os.stat(path))
        except OSError:  # somebody outside of the run removes it
            continue
    return found


def told(name: str) -> str:
    """The name under which a file is kept: see ``RunFolder.keep_live``, which gives it such a one at the end."""
    try:
        name.encode()
    except UnicodeEncodeError:
        name = "".join(c if not 0xDC80 <= ord(c) <= 0xDCFF else f"%{ord(c) - 0xDC00:02X}" for c in name)
    return name.replace("\\", "%5C") if ".." in name.split("\\") else name


def _files(top: str, prefix: str) -> Iterator[Seen]:
    if os.path.islink(top):
        return
    waiting = [(top, prefix)]  # no recursion: a script's folders may be nested deeper than Python's calls
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # removed meanwhile, closed to us, or nested too deep: seen to at the end
            continue
        for entry in entries:
            name = f"{prefix}/{told(entry.name)}"
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, name))
                    continue
                link = entry.is_symlink()
                if entry.name.endswith(PART) or (link and not _inside(entry.path, top)):
                    continue
                state = entry.stat()
            except OSError:  # removed meanwhile, or a link that leads nowhere
                continue
            if stat.S_ISREG(state.st_mode):
                yield Seen.of(name, entry.path, state)


def _inside(path: str, top: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(top) + os.sep)
