"""A run's folder on this machine, which is also its place in the history (DESIGN decision 4).

::

    runs/<run id>/
        work/       the script's working folder: its snapshot, and real ``outputs/`` and ``logs/``
        files/      everything else that is kept: uploads, ``azureml-logs/``; after the end also ``outputs/``, ``logs/``
        spool/      metric points on their way into the store
        agent/      what the agent must know if it starts again
        nodes/RANK/ the same of each other node than the first while the run goes, and ``node``, its name
        attempts/N/ all of these of an attempt whose node was lost
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from windlass.errors import UserErrorException, did_you_mean
from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.room import remove_tree

log = logging.getLogger(__name__)

NODES = "nodes"
"""Folder in a run's own of what its other nodes than the first have."""
ATTEMPTS = "attempts"
"""Folder in a run's own of what its earlier attempts left."""
LIVE = ("outputs", "logs")
"""Folders of the script's working folder that are kept."""
SYSTEM = ("azureml-logs/", "user_logs/")
"""Folders that only Windlass writes."""
DRIVER_LOG = "azureml-logs/70_driver_log.txt"
BUILD_LOG = "azureml-logs/20_image_build_log.txt"
DATA_LOG = "azureml-logs/30_data_log.txt"
_BESIDE = ".windlass-link"
_BEFORE_FILE, _NODE_FILE = "before.json", "node"
_TRANSIENT = ("work", "spool", "agent")
_MOST_NOTED = 50_000
_CLOCK_SLACK_S = 0.05  # file times come from a clock that ticks every few milliseconds
_LONGEST_NAME, _LONGEST_PATH = 240, 2000
_SHOWN_LINKS = 3
_HASHED_AT_ONCE = 1 << 20
_ALIASES = (("user_logs/std_log", "azureml-logs/70_driver_log"),)


class RunFolder:
    """Paths and kept files of one node's part of a run. No path that comes out leads out of the folder.

    Rank 0 has the run's own folder. ``whole_run.py`` has the view on all nodes. ``earlier`` is the number of an attempt
    that was given up: what it left is below ``attempts``.
    """

    def __init__(self, workspace_dir: str, run_id: str, rank: int = 0, earlier: int | None = None) -> None:
        if not run_id or "/" in run_id or run_id.startswith("."):
            raise UserErrorException(f"{run_id!r} is not the id of a run.")
        self.workspace_dir, self.rank, self.earlier = workspace_dir, rank, earlier
        run = os.path.join(workspace_dir, "runs", run_id)
        if earlier is not None:
            run = os.path.join(run, ATTEMPTS, str(earlier))
        self.root = os.path.join(run, NODES, str(rank)) if rank else run
        self.work = os.path.join(self.root, "work")
        self.files = os.path.join(self.root, "files")
        self.spool = os.path.join(self.root, "spool")
        self.agent = os.path.join(self.root, "agent")

    def make(self, node: str = "") -> None:
        """Create the folders that exist before anything of the run does; of other ranks than 0 note the node's name."""
        for path in (self.files, os.path.join(self.files, "azureml-logs"), self.spool, self.agent):
            os.makedirs(path, mode=0o700, exist_ok=True)
        self.note_node(node)

    def note_node(self, node: str) -> None:
        """Write down the name of the part's node, by which its files are shown where another has their name."""
        if self.rank and node:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            path = os.path.join(self.root, _NODE_FILE)
            with open(path + ".part", "w", encoding="utf-8") as f:
                f.write(node)
            os.replace(path + ".part", path)

    @property
    def node(self) -> str:
        """Name of the part's node, fit to be a folder's; ``node-RANK`` where nobody noted it."""
        try:
            with open(os.path.join(self.root, _NODE_FILE), encoding="utf-8") as f:
                name = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in f.read(_LONGEST_NAME // 4))
        except (OSError, ValueError):
            name = ""
        return name if name.strip(".") else f"node-{self.rank}"

    def log(self, name: str) -> str:
        """Path of a log or upload for writing; its folder exists afterwards.

        Raises:
            UserErrorException: the name leads outside.
        """
        parts = _parts(name)
        if len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(p)) > _LONGEST_NAME for p in parts):
            raise UserErrorException(
                f"The file name {name[:60]!r}… is too long: at most {_LONGEST_NAME} bytes a part, {_LONGEST_PATH} in "
                "all."
            )
        path = os.path.join(self.files, *parts)
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
        as_written = [p for p in name.split("/") if p not in ("", ".")]  # a script's name may have a backslash in it
        for tried in (as_written, parts):
            # at the end of the run outputs go from one to the other, perhaps right now
            for root in (self.files, self.work, self.files) if tried[0] in LIVE else (self.files,):
                path = os.path.join(root, *tried)
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
        found: dict[str, int] = {}
        for name in LIVE:  # first, as they are moved to the others at the end of the run, perhaps right now
            folder = os.path.join(self.work, name)
            if not os.path.islink(folder):  # else "inside" would mean inside of wherever it leads
                found.update(_walk(folder, folder, name))
        found.update(_walk(self.files, self.files, ""))
        return [{"path": path, "size": found[path]} for path in sorted(found)]

    def checksums(self, names: Iterable[str], wanted: Callable[[], bool] = lambda: True) -> Mapping[str, str]:
        """SHA-256 of these kept files, as hex; without those that something else can change (hard links elsewhere).

        Raises:
            InterruptedError: ``wanted`` gave False; it is asked often.
        """
        there = dict(self._own())
        states = {name: os.lstat(path) for name, path in there.items()}
        ours = Counter(state.st_ino for state in states.values())
        found = {}
        for name in names:
            state = states.get(name)
            if state and stat.S_ISREG(state.st_mode) and state.st_nlink <= ours[state.st_ino]:
                found[name] = sha256_of(there[name], wanted)
        return found

    def _own(self) -> Iterator[tuple[str, str]]:
        """Name and path of what ``list`` tells of."""
        yield from self._in_work()
        yield from ((path, os.path.join(self.files, path)) for path, _ in _walk(self.files, self.files, ""))

    def _in_work(self) -> Iterator[tuple[str, str]]:
        for name in LIVE:
            folder = os.path.join(self.work, name)
            if not os.path.islink(folder):
                yield from ((path, os.path.join(self.work, path)) for path, _ in _walk(folder, folder, name))

    def note_before(self) -> None:
        """Write down what lies in ``outputs`` and ``logs`` of a client's working folder before its run begins."""
        there = {name: _identity(path) for name, path in self._in_work()}
        if len(there) <= _MOST_NOTED:
            path = os.path.join(self.agent, _BEFORE_FILE)
            with open(path + ".part", "w", encoding="utf-8") as f:
                json.dump(there, f)
            os.replace(path + ".part", path)

    def from_before(self, since: float) -> Callable[[str], bool]:
        """Tells which files of ``outputs`` and ``logs`` in the working folder were there before the run, unchanged.

        The working folder of an interactive run is a client's own, where earlier runs left theirs. Where nothing was
        noted, one last written before ``since`` counts as such.
        """
        try:
            with open(os.path.join(self.agent, _BEFORE_FILE), encoding="utf-8") as f:
                before = json.load(f)
        except (OSError, ValueError):  # begun by an older version, or with too many files there
            before = None

        def was_there(name: str) -> bool:
            path = self.find(name)
            if path is None or not path.startswith(self.work + os.sep):
                return False
            if isinstance(before, dict):
                return name in before and before[name] in (None, _identity(path))
            try:
                return os.path.getmtime(path) < since - _CLOCK_SLACK_S
            except OSError:  # gone meanwhile
                return True

        return was_there

    def logs(self) -> Sequence[str]:
        """Names of the system logs, in the order they are shown."""
        folder = os.path.join(self.files, "azureml-logs")
        try:
            return sorted(f"azureml-logs/{e.name}" for e in os.scandir(folder) if e.is_file(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def keep_live(self) -> Sequence[str]:
        """Move ``outputs`` and ``logs`` beside the other kept files, without copying. May be repeated.

        Returns:
            Sentences on what could not be kept as it was.
        """
        notes: list[str] = []
        os.makedirs(self.files, mode=0o700, exist_ok=True)  # the script may have removed it
        for name in LIVE:
            source, target = os.path.join(self.work, name), os.path.join(self.files, name)
            if os.path.islink(source):
                notes.append(f"{name} is a link to {os.readlink(source)}; what lies there is not kept.")
            elif os.path.isfile(source):
                place = target if not os.path.lexists(target) else f"{target}.file"
                os.replace(source, place)
                notes.append(f"{name} is a file instead of a folder; it is kept as {os.path.basename(place)}.")
            elif os.path.isdir(source):
                if _open_up(source):
                    notes.append(f"{name} has folders nested too deep to be listed; they are kept in {target}.")
                _rename_bytes(source, notes)
                notes += _leading_out(_settle_links(source), name, source)
                if os.path.isdir(target):  # files were uploaded under that name while the run went
                    _merge(source, target, name, notes)
                else:
                    os.rename(source, target)
        return notes

    def left(self) -> Sequence[str]:
        """What only the running job needed and is still there, such as ``work``."""
        return [name for name in _TRANSIENT if os.path.lexists(os.path.join(self.root, name))]

    def seal(self) -> None:
        """Make the kept files read-only and remove what only the running job needed. May be repeated."""
        make_read_only(self.files)
        if os.path.islink(self.work):  # an interactive run's: a client's own folder, which is not ours to empty
            os.unlink(self.work)
        for folder in (os.path.join(self.root, name) for name in _TRANSIENT):
            try:
                remove_tree(folder)
            except OSError as problem:  # it takes room, and hurts nobody
                log.warning("%s cannot be removed: %s", folder, problem)
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder of another rank than 0 once nothing of the node is in it any more. May be repeated."""
        try:
            if self.rank and set(os.listdir(self.root)) <= {_NODE_FILE, "files"}:
                files = os.path.join(self.root, "files")
                if os.path.isdir(files) and not os.listdir(files):
                    os.rmdir(files)
                if os.listdir(self.root) == [_NODE_FILE]:
                    os.unlink(os.path.join(self.root, _NODE_FILE))
                os.rmdir(self.root)
                os.rmdir(os.path.dirname(self.root))
        except OSError:  # something is in it, or somebody else did the same this moment
            pass


def make_read_only(folder: str) -> None:
    """Take the right to write from the kept files below ``folder``; they may be moved meanwhile."""
    for path, _ in _walk(folder, folder, ""):
        full = os.path.join(folder, path)
        try:
            state = os.lstat(full)
            mode = stat.S_IMODE(state.st_mode)
            if mode & 0o222 and stat.S_ISREG(state.st_mode) and state.st_nlink == 1:  # else it is somebody else's, too
                os.chmod(full, mode & ~0o222)
        except FileNotFoundError:
            continue


def _identity(path: str) -> list[int] | None:
    """What another file of that name, or another content, would not have in common with it; None when it is gone."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns]


def sha256_of(path: str, wanted: Callable[[], bool] = lambda: True) -> str:
    """SHA-256 of a file, as hex; raises InterruptedError once ``wanted`` gives False."""
    sum_so_far, buffer = hashlib.sha256(), bytearray(_HASHED_AT_ONCE)
    with open(path, "rb", buffering=0) as f:
        while size := f.readinto(buffer):
            sum_so_far.update(memoryview(buffer)[:size])
            if not wanted():
                raise InterruptedError(f"the checksum of {path} is not wanted any more")
    return sum_so_far.hexdigest()


def _parts(name: str) -> list[str]:
    parts = name.replace("\\", "/").split("/")
    parts = [p for p in parts if p not in ("", ".")]
    if not parts or ".." in parts or name.startswith("/") or "\0" in name:
        raise UserErrorException(f"{name!r} is not the name of a run's file: it must be relative, without '..'.")
    return parts


def _inside(path: str, root: str) -> bool:
    real, base = os.path.realpath(path), os.path.realpath(root)
    return real == base or real.startswith(base + os.sep)


def _walk(folder: str, root: str, prefix: str) -> Iterator[tuple[str, int]]:
    waiting = [(folder, prefix)]  # no recursion: a script's folders may be nested deeper than Python's calls
    while waiting:
        place, prefix = waiting.pop()
        try:
            entries = list(os.scandir(place))
        except OSError:  # removed meanwhile, or closed to us, or a path too long for the kernel
            continue
        for entry in entries:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            if not _can_be_told(entry.name):  # shown once the run has ended, under a name that can be told
                continue
            if entry.name.endswith(PART):  # an upload under way, or cut short by a kill
                continue
            try:
                if entry.is_symlink():
                    if _inside(entry.path, root) and entry.is_file():
                        yield name, entry.stat().st_size
                elif entry.is_dir():
                    waiting.append((entry.path, name))
                elif entry.is_file():
                    yield name, entry.stat().st_size
            except OSError:
                continue


def _can_be_told(name: str) -> bool:
    """False for names that no client can ask for: no UTF-8, or such that lead out where ``\\`` is a separator."""
    return _is_text(name) and ".." not in name.split("\\")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folders_of(top: str) -> Iterator[str]:
    """``top`` and the real folders below it, each before those in it, unless the kernel cannot take its path."""
    waiting = [top]  # no recursion: see _walk
    while waiting:
        folder = waiting.pop()
        yield folder
        try:
            entries = list(os.scandir(folder))
        except OSError as problem:
            if problem.errno != errno.ENAMETOOLONG:
                raise
            continue
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def entries_of(folder: str) -> Sequence[os.DirEntry[str]]:
    """What lies in a folder; nothing when its path is too long."""
    try:
        return list(os.scandir(folder))
    except OSError as problem:
        if problem.errno != errno.ENAMETOOLONG:
            raise
        return ()


def _rename_bytes(top: str, notes: list[str]) -> None:
    """Give names that cannot be told one that can, with the odd bytes as ``%E9``."""
    for folder in folders_of(top):
        for entry in entries_of(folder):
            if not _is_text(entry.name):
                name = "".join(c if _is_text(c) else f"%{ord(c) - 0xDC00:02X}" for c in entry.name)
                why = "is not UTF-8"
            elif not _can_be_told(entry.name):
                name, why = entry.name.replace("\\", "%5C"), "leads out where \\ separates folders"
            else:
                continue
            os.rename(entry.path, os.path.join(folder, name))
            notes.append(f"A file name that {why} became {name!r}.")


def _settle_links(top: str) -> list[str]:
    """Turn links to files of the same folder into those files (hard links): their targets are about to move.

    Returns:
        The links that lead out to something: what lies there is not kept.
    """
    out = []
    for entry in (entry for folder in folders_of(top) for entry in entries_of(folder)):
        if not entry.is_symlink() or not os.path.exists(entry.path):  # a link may lead nowhere, or in a circle
            continue
        if not _inside(entry.path, top):
            out.append(entry.path)
        elif os.path.isfile(entry.path):
            beside = entry.path + _BESIDE
            if os.path.lexists(beside):  # an agent was killed right here
                os.unlink(beside)
            os.link(os.path.realpath(entry.path), beside)
            os.replace(beside, entry.path)
    return out


def _leading_out(links: Sequence[str], name: str, folder: str) -> list[str]:
    """A sentence on the links that lead out of ``folder``, if there are any."""
    if not links:
        return []
    shown = sorted(f"{name}/{os.path.relpath(link, folder)}" for link in links)
    more = f" and {len(shown) - _SHOWN_LINKS} more" if len(shown) > _SHOWN_LINKS else ""
    verb = "lead" if len(shown) > 1 else "leads"
    return [f"{', '.join(shown[:_SHOWN_LINKS])}{more} {verb} out of the folder; what lies there is not kept."]


def _open_up(top: str) -> bool:
    """Let the owner read everything below ``top``: scripts write files that not even they may read.

    Returns:
        True when there are folders nested too deep to be looked into.
    """
    waiting, too_deep = [top], False
    while waiting:
        folder = waiting.pop()
        try:
            os.chmod(folder, os.stat(folder).st_mode | 0o700)
            entries = list(os.scandir(folder))
        except OSError as problem:
            if problem.errno != errno.ENAMETOOLONG:
                raise
            too_deep = True
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                mode = entry.stat(follow_symlinks=False).st_mode
                if not mode & 0o400:
                    os.chmod(entry.path, stat.S_IMODE(mode) | 0o400)
    return too_deep


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
