"""Notice at once, without polling, that a run's spool, logs or outputs grew (inotify)."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from enum import Enum

from inotify_simple import INotify, flags

from windlass.specs.launch import PartKey
from windlass.specs.spool import SUFFIX
from windlassd.blobs.run_folder import LIVE, RunFolder

log = logging.getLogger(__name__)
_CHANGES = flags.MODIFY | flags.CREATE | flags.MOVED_TO | flags.DELETE | flags.MOVED_FROM
_PAUSE_S = 0.01
"""After a wake-up, events gather this long before they are read: a chatty script must not cost a core."""


class Grew(Enum):
    """What of a part changed."""

    SPOOL = "spool"
    LOGS = "logs"
    FILES = "files"


class Tail:
    """Watches the folders of parts on one thread and calls back once per burst.

    Args:
        notice: Called on the tail's thread with the part's key and what grew; must be quick.
    """

    def __init__(self, notice: Callable[[PartKey, Grew], None]) -> None:
        self._notice = notice
        self._inotify = INotify()
        self._watches: dict[int, tuple[PartKey, Grew, str]] = {}
        self._spools: dict[PartKey, set[str]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="tail", daemon=True).start()

    def watch(self, part: PartKey, folder: RunFolder) -> None:
        """Begin to watch a part whose folders exist."""
        with self._lock:
            self._add(part, Grew.SPOOL, folder.spool)
            self._add(part, Grew.LOGS, os.path.join(folder.files, "azureml-logs"))
            for name in LIVE:
                self._add(part, Grew.FILES, os.path.join(folder.work, name))

    def forget(self, part: PartKey) -> set[str]:
        """Stop watching a part; returns the names of the spool files that came into being."""
        with self._lock:
            seen = self._spools.pop(part, set())
            for watch, (owner, _, _) in list(self._watches.items()):
                if owner == part:
                    del self._watches[watch]
                    try:
                        self._inotify.rm_watch(watch)
                    except OSError:  # the folder is gone already, and the watch with it
                        pass
            return seen

    def _add_tree(self, part: PartKey, kind: Grew, path: str) -> None:
        """Watch a new folder and what was made in it before the watch was there."""
        waiting = [path]  # no recursion: a script's folders may be nested deeper than Python's calls
        while waiting:
            folder = waiting.pop()
            if not self._add(part, kind, folder):
                continue
            try:
                with os.scandir(folder) as entries:
                    waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as problem:  # removed meanwhile, or a path too long: found at the end of the run
                log.info("%s cannot be looked into: %s", folder, problem)

    def _add(self, part: PartKey, kind: Grew, path: str) -> bool:
        """Watch one folder; False when it is watched already, or cannot be."""
        try:
            watch = self._inotify.add_watch(path, _CHANGES | flags.ONLYDIR)
        except FileNotFoundError:  # the script removed it; what it writes next is found at the end of the run
            return False
        except OSError as problem:
            log.warning("%s cannot be watched, so it is seen late: %s (fs.inotify.max_user_watches?)", path, problem)
            return False
        new = watch not in self._watches
        self._watches[watch] = (part, kind, path)
        return new

    def _run(self) -> None:
        while True:
            events = self._inotify.read()
            grown: set[tuple[PartKey, Grew]] = set()
            with self._lock:
                for event in events:
                    if event.mask & flags.Q_OVERFLOW:  # some were dropped: say that everything grew
                        grown.update((part, kind) for part, kind, _ in self._watches.values())
                    entry = self._watches.get(event.wd)
                    if entry is None:
                        continue
                    part, kind, path = entry
                    grown.add((part, kind))
                    if kind is Grew.SPOOL and event.mask & flags.CREATE and event.name.endswith(SUFFIX):
                        self._spools.setdefault(part, set()).add(event.name)
                    if kind is Grew.FILES and event.mask & flags.ISDIR and event.mask & (flags.CREATE | flags.MOVED_TO):
                        self._add_tree(part, kind, os.path.join(path, event.name))
            for part, kind in grown:
                try:
                    self._notice(part, kind)
                except Exception:  # the edge: one run's odd files must not end the watch on all others
                    log.exception("%s of %s could not be taken notice of", kind, part)
            time.sleep(_PAUSE_S)
