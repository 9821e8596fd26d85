"""What the server is known to hold of a part's files: nothing is sent twice, also by the agent that comes after a kill.

``agent/shipped`` in the part's folder, a JSON array per line: a name alone is gone; else with what was seen of the file
and its content. A line that is not whole, or could not be written, only means that a file is sent again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from typing import NamedTuple

from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_FILE = "shipped"


class Sent(NamedTuple):
    """A file as it was when it was sent."""

    name: str
    inode: int
    size: int
    modified_ns: int
    sha256: str
    young: bool
    """It had been written to so shortly before that a later write through a memory map need not show in its times."""

    @property
    def identity(self) -> tuple[int, int, int]:
        """What another content would not have in common with it, but for memory maps."""
        return self.inode, self.size, self.modified_ns


class Memory:
    """One thread at a time."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = os.path.join(folder.agent, _FILE)
        self._sent: dict[str, Sent] = {}
        try:
            with open(self._path, encoding="utf-8") as lines:
                for line in lines:
                    self._read(line)
        except (OSError, UnicodeDecodeError):
            pass  # a new part, or one whose script wrote here

    def get(self, name: str) -> Sent | None:
        """What was sent under the name, and is there."""
        return self._sent.get(name)

    def names(self) -> set[str]:
        """Of all that is there."""
        return set(self._sent)

    def add(self, files: Iterable[Sent]) -> None:
        """The server has these."""
        added = list(files)
        self._sent.update((file.name, file) for file in added)
        self._write([list(file) for file in added])

    def remove(self, names: Iterable[str]) -> None:
        """The server does not have these any more, or not as it was known."""
        gone = [name for name in names if self._sent.pop(name, None) is not None]
        self._write([[name] for name in gone])

    def _read(self, line: str) -> None:
        try:
            name, *known = json.loads(line)
            self._sent.pop(name, None)
            if known:
                self._sent[name] = Sent(name, *known)
        except (ValueError, TypeError):
            log.info("a line of %s is passed over: %r", self._path, line[:200])

    def _write(self, lines: Iterable[list[object]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            with open(self._path, "a", encoding="utf-8") as out:
                out.write(text)
        except OSError as problem:
            log.warning("what was sent cannot be noted: %s", problem)
