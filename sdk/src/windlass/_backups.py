"""Backups of a workspace as they lie in a folder: asked for, listed, verified, restored. Only making needs a server.

A restored workspace is put together beside, checked file by file against the checksums, and gets its name in one step:
killed before, it is as if nothing had been done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from windlass import settings
from windlass._transport import places
from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException, from_code
from windlass.specs.backup import HOME, INDEX_FILE, MANIFEST_FILE, WORKSPACE, Entry, Manifest, is_newer

if TYPE_CHECKING:
    from windlass._transport.client import Client

_CHUNK = 1 << 20
_RESTORING = "restoring"
_LOCK = "lock"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
_LINKS_IN: "Mapping[Tuple[str, ...], int]" = {
    (WORKSPACE, "runs"): 3, (WORKSPACE, "datastores"): 2, (HOME, "offline"): 2, (HOME, "environments"): 3,
}  # fmt: skip
"""Folders of a backup that may have links, and how far down; above them Windlass itself goes in and out."""
Say = Callable[[str, int, Optional[int]], None]
"""Told of a phase, how many of its steps are done, and how many there are (None: nobody knows)."""


class Backup(NamedTuple):
    """A whole backup."""

    path: str
    manifest: Manifest


class Restored(NamedTuple):
    """What a restore made."""

    name: str
    folder: str
    aside: "Optional[str]"
    """Where the workspace lies that had the name before."""
    left: "List[str]"
    """Files of the home that were there already and stayed as they were."""


def make(client: "Client", folder: str, keep: "Optional[int]", say: Say) -> "Dict[str, Any]":
    """Have the server make a backup in ``folder``; its path, manifest and which older ones were removed.

    Raises:
        ServiceUnavailable: the server ended meanwhile, or the disk is full.
    """
    if not folder:  # such as a shell's variable that is not set
        raise UserErrorException("The folder of the backup has no name: it is empty. '.' is the current one.")
    answer = client.open(
        "POST", "/v1/backups", body=json.dumps({"folder": os.path.abspath(folder), "keep": keep}).encode(),
        content_type="application/json", own_connection=True,
    )  # fmt: skip
    try:
        for line in iter(answer.readline, b""):
            told = json.loads(line.decode())
            if "error" in told:
                raise from_code(told["error"]["code"], told["error"]["message"])
            if "backup" in told:
                return dict(told)
            if told:
                say(told["phase"], told["done"], told["total"])
    except (OSError, ValueError) as e:
        raise _broken_off(folder) from e
    finally:
        answer.close()
    raise _broken_off(folder)


def find(where: str) -> "List[Backup]":
    """The whole backups that ``where`` is or has, oldest first.

    Raises:
        UserErrorException: there is none.
    """
    path = os.path.abspath(os.path.expanduser(where))
    if os.path.isfile(os.path.join(path, MANIFEST_FILE)):
        return [_opened(path)]
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    folders = [os.path.join(path, name) for name in names if not name.startswith(".")]
    found = [_opened(folder) for folder in folders if os.path.isfile(os.path.join(folder, MANIFEST_FILE))]
    if not found:
        raise UserErrorException(
            "There is no backup in %s. `windlass workspace backup FOLDER` makes one; a folder whose name ends in "
            "'.part' is one that was cut short." % path
        )
    return sorted(found, key=lambda backup: (backup.manifest.made, backup.path))


def verify(backup: Backup, say: Say) -> "List[str]":
    """Read all of a backup; sentences on what is missing or damaged, none when it is whole."""
    wrong = []
    for number, entry in enumerate(_entries(backup)):
        say("verifying", number, backup.manifest.files)
        if entry.sha256 is None:
            continue
        try:
            with open(os.path.join(backup.path, entry.path), "rb") as f:
                if _copied(f, None) != entry.sha256:
                    wrong.append("%s is damaged: it does not have its checksum." % entry.path)
        except OSError as e:
            wrong.append("%s cannot be read: %s." % (entry.path, e.strerror))
    return wrong


def restore(backup: Backup, name: "Optional[str]", force: bool, say: Say) -> Restored:
    """Make a workspace of a backup in this home.

    Args:
        backup: What to make it of.
        name: The workspace's; that of the backed up one when None.
        force: Put a workspace that has the name aside, instead of refusing.
        say: Told how far it is.

    Raises:
        UserErrorException: there is one of that name; or the backup is damaged, or of a newer version.
    """
    import windlass

    if is_newer(backup.manifest.version, windlass.__version__):
        raise UserErrorException(
            "%s was made by Windlass %s, which is newer than this one (%s). Upgrade: `pip install --upgrade windlass`."
            % (backup.path, backup.manifest.version, windlass.__version__)
        )
    target = places.workspace_dir(name or backup.manifest.workspace)
    _check_target(target, force)
    home = places.private_dir(settings.home())
    _check_room(home, backup)
    with _Beside(home) as beside:
        _lay_out(backup, beside, say)
        left = _add_to_home(os.path.join(beside, HOME), home)  # a restore that is killed here is made again
        aside = _publish(os.path.join(beside, WORKSPACE), target)
    return Restored(os.path.basename(target), target, aside, left)


def _opened(path: str) -> Backup:
    place = os.path.join(path, MANIFEST_FILE)
    with open(place, encoding="utf-8") as f:
        try:
            return Backup(path, Manifest.from_text(f.read(), place))
        except ValueError as e:
            raise UserErrorException(str(e)) from e


def _entries(backup: Backup) -> "Iterator[Entry]":
    """What the index lists, once it has its own checksum.

    Raises:
        UserErrorException: it is damaged.
    """
    place = os.path.join(backup.path, INDEX_FILE)
    with open(place, "rb") as index:
        if _copied(index, None) != backup.manifest.index_sha256:
            raise UserErrorException("%s is damaged: it does not have its checksum. Use another backup." % place)
        index.seek(0)
        for line in index:
            try:
                yield Entry.from_line(line)
            except (ValueError, TypeError) as e:
                raise UserErrorException("%s has a line that is none of a backup's: %s." % (place, e)) from e


def _check_target(target: str, force: bool) -> None:
    if not os.path.isdir(target) or not os.listdir(target):
        return
    name = os.path.basename(target)
    if not force:
        raise UserErrorException(
            "There is a workspace %r in %s. Restore under another name with --name, or pass --force to put that one "
            "aside." % (name, target)
        )
    active = _active(target)
    if active:
        count = "1 run has" if active == 1 else "%d runs have" % active
        raise UserErrorException(
            "%s not ended in the workspace %r. Wait, or cancel with `windlass -w %s stop RUN`, then restore."
            % (count, name, name)
        )


def _active(workspace_dir: str) -> int:
    """Runs that have not ended; none where no server can start, such as on a damaged database."""
    from windlass._transport import autostart
    from windlass._transport.client import Client

    try:
        return int(Client(workspace_dir).get("/v1/server")["active_runs"])
    except AzureMLException:
        if autostart.is_running(workspace_dir):
            raise
        return 0


def _check_room(home: str, backup: Backup) -> None:
    free = shutil.disk_usage(home).free
    if free < backup.manifest.bytes:
        raise UserErrorException(
            "No room for the workspace in %s: it takes %d MB, %d MB are free. Free some space, or set WINDLASS_HOME to "
            "a folder on another disk." % (home, backup.manifest.bytes >> 20, free >> 20)
        )


class _Beside:
    """A folder of the home to put things together in; gone afterwards, as are those of restores that were killed."""

    def __init__(self, home: str) -> None:
        self._root = os.path.join(home, _RESTORING)
        self._path = os.path.join(self._root, uuid.uuid4().hex)
        self._lock: "Optional[IO[str]]" = None

    def __enter__(self) -> str:
        import fcntl

        os.makedirs(self._root, mode=0o700, exist_ok=True)
        with open(os.path.join(self._root, _LOCK), "a") as door:
            fcntl.flock(door, fcntl.LOCK_EX)  # nobody sweeps between the next two steps
            for name in os.listdir(self._root):
                if name != _LOCK and not _is_held(os.path.join(self._root, name, _LOCK)):
                    _remove(os.path.join(self._root, name))
            os.mkdir(self._path, 0o700)
            self._lock = open(os.path.join(self._path, _LOCK), "a")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._path

    def __exit__(self, *problem: object) -> None:
        _remove(self._path)
        if self._lock is not None:
            self._lock.close()


def _is_held(path: str) -> bool:
    import fcntl

    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _lay_out(backup: Backup, beside: str, say: Say) -> None:
    """Copy all files, checked; links last, so that no file is written through one."""
    links = []
    os.makedirs(os.path.join(beside, WORKSPACE), mode=0o700)  # by itself: only the last folder of a path gets the mode
    for number, entry in enumerate(_entries(backup)):
        say("restoring", number, backup.manifest.files)
        place = os.path.join(beside, *entry.path.split("/"))
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        if entry.link is not None:
            parts = tuple(entry.path.split("/"))
            if len(parts) <= _LINKS_IN.get(parts[:2], len(parts)):
                raise UserErrorException(
                    "The backup %s has a link as %s, which Windlass does not make. Nothing was restored."
                    % (backup.path, entry.path)
                )
            links.append((entry.link, place))
        elif entry.sha256 is None:
            os.makedirs(place, mode=0o700, exist_ok=True)
        else:
            _restore_file(backup, entry, place)
    for text, place in links:
        os.symlink(text, place)
    say("disk", 0, 1)
    os.sync()


def _restore_file(backup: Backup, entry: Entry, place: str) -> None:
    try:
        with open(os.path.join(backup.path, entry.path), "rb") as source, open(place, "xb") as out:
            found = _copied(source, out)
    except FileNotFoundError as e:
        raise UserErrorException(
            "The backup %s lacks %s. Nothing was restored; use another backup." % (backup.path, entry.path)
        ) from e
    if found != entry.sha256:
        raise UserErrorException(
            "The backup %s is damaged: %s does not have its checksum. Nothing was restored; use another backup."
            % (backup.path, entry.path)
        )
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
    os.chmod(place, entry.mode & 0o777 | 0o400)


def _copied(source: "IO[bytes]", target: "Optional[IO[bytes]]") -> str:
    """The SHA-256 of what ``source`` still has, which goes to ``target``."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: source.read(_CHUNK), b""):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()


def _publish(made: str, target: str) -> "Optional[str]":
    """Give the folder its name, in one step; a workspace that has it is stopped and put aside: its new path."""
    from windlass import _workspace_end
    from windlass._transport.client import Client

    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    if not os.path.isdir(target) or not os.listdir(target):
        try:
            os.rename(made, target)
        except OSError as e:
            raise UserErrorException(
                "The workspace %s was made by somebody else meanwhile (%s). Restore again." % (target, e.strerror)
            ) from e
        os.sync()  # its name, too
        return None
    with _workspace_end.stopped(Client(target), target):  # and none can start on one of the two before it is done
        aside = _workspace_end.place_aside(target)
        if _exchange(made, target):
            os.rename(made, aside)
        else:
            os.rename(target, aside)
            os.rename(made, target)
    os.sync()
    return aside


def _exchange(one: str, other: str) -> bool:
    """Swap two folders in one step; False where the system has no such call."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _add_to_home(source: str, home: str) -> "List[str]":
    """Bring what the home does not have; what it has stays."""
    left = []
    for name in (settings.USER_FILE, "offline", os.path.join("environments", "requests"),
                 os.path.join("environments", "resolved")):  # fmt: skip
        place, below = os.path.join(source, name), name != settings.USER_FILE
        inner = sorted(os.listdir(place)) if below and os.path.isdir(place) else []
        for part in [os.path.join(name, entry) for entry in inner] if below else [name]:
            if not os.path.lexists(os.path.join(source, part)):
                continue
            target = os.path.join(home, part)
            if os.path.lexists(target):
                if not _same(os.path.join(source, part), target):
                    left.append(part)
                continue
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(os.path.join(source, part), target)
    return left


def _same(one: str, other: str) -> bool:
    if os.path.isdir(one) or os.path.isdir(other):
        return os.path.isdir(one) == os.path.isdir(other)
    with open(one, "rb") as first, open(other, "rb") as second:
        return first.read() == second.read()


def _remove(path: str) -> None:
    for folder, below, _ in os.walk(path):
        for name in below:
            if not os.path.islink(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o700)
    shutil.rmtree(path, ignore_errors=True)


def _broken_off(folder: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The server ended while it made the backup in %s; there is none of this moment." % folder, "Start it again."
    )


def summary(backup: Backup) -> "Mapping[str, Any]":
    """A backup as lists show it."""
    manifest = backup.manifest
    return {
        "path": backup.path, "workspace": manifest.workspace, "made": manifest.made, "version": manifest.version,
        "runs": manifest.runs, "unfinished": len(manifest.unfinished), "files": manifest.files,
        "bytes": manifest.bytes, "new_bytes": manifest.new_bytes, "incomplete": list(manifest.incomplete),
    }  # fmt: skip
