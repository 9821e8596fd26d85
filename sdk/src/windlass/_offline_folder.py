"""Where an offline run is kept until somebody replays it: ``offline/<id>/`` in the home.

::

    run.json    status, names, tags, properties, parent
    spool/      metric points, as in a run's own folder
    files/      what was uploaded, images and charts

The folder comes into being with the first thing that is kept, so that a script that only asks for its context leaves
nothing behind.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, Dict, List

from windlass import settings
from windlass.errors import UserErrorException, did_you_mean

_STATE = "run.json"


class OfflineFolder:
    """One offline run on disk."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.path = os.path.join(settings.home(), "offline", run_id)
        self.spool = os.path.join(self.path, "spool")
        self.files = os.path.join(self.path, "files")
        self._warned = False

    def write_state(self, state: "Dict[str, Any]") -> None:
        """Keep ``state``, whole or not at all. A disk that does not take it is told of once and stops nobody."""
        beside = os.path.join(self.path, "%s.%d.part" % (_STATE, os.getpid()))
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            with open(beside, "w", encoding="utf-8") as f:
                json.dump(state, f)
            os.replace(beside, os.path.join(self.path, _STATE))
        except OSError as e:
            if not self._warned:
                self._warned = True
                sys.stderr.write("windlass: the offline run cannot be kept in %s (%s).\n" % (self.path, e.strerror))

    def read_state(self) -> "Dict[str, Any]":
        """What ``write_state`` kept.

        Raises:
            UserErrorException: there is no such run, or its file cannot be read.
        """
        try:
            with open(os.path.join(self.path, _STATE), encoding="utf-8") as f:
                return dict(json.load(f))
        except FileNotFoundError:
            known = [state["id"] for state in offline_runs()]
            near = did_you_mean(self.id, known) or (" There are: %s." % ", ".join(known[:5]) if known else "")
            raise UserErrorException("There is no offline run %r in %s.%s" % (self.id, self.path, near)) from None
        except (OSError, ValueError) as e:
            raise UserErrorException("The offline run %s cannot be read: %s." % (self.path, e)) from e

    def keep(self, name: str, content: Any) -> None:
        """Keep a file under ``name``: ``content`` is bytes, or an open file to copy."""
        target = os.path.join(self.files, *name.split("/"))
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as f:
                if isinstance(content, bytes):
                    f.write(content)
                else:
                    shutil.copyfileobj(content, f)
        except OSError as e:
            raise UserErrorException("%s cannot be kept in %s: %s." % (name, self.path, e.strerror or e)) from e

    def kept(self) -> "Dict[str, str]":
        """Kept files: name to path."""
        found = {}
        for folder, _, files in os.walk(self.files):
            for file in files:
                path = os.path.join(folder, file)
                found[os.path.relpath(path, self.files).replace(os.sep, "/")] = path
        return found


def offline_runs() -> "List[Dict[str, Any]]":
    """The states of all offline runs of this home, oldest first."""
    root = os.path.join(settings.home(), "offline")
    found = []
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        if os.path.isfile(os.path.join(root, name, _STATE)):
            found.append(OfflineFolder(name).read_state())
    return sorted(found, key=lambda state: float(state["created"]))
