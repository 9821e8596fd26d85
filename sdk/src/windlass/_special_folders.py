"""Folders of an interactive run, such as ``./outputs`` and ``./logs``: there from its start, kept at its end."""

from __future__ import annotations

import os
from typing import Iterator, Sequence, Tuple

DEFAULT = ("outputs", "logs")


class SpecialFolders:
    """Makes the folders and remembers what lay there: what an earlier run left is not this run's.

    Args:
        root: The working folder when the run began.
        names: Their paths relative to it, with forward slashes.
    """

    def __init__(self, root: str, names: "Sequence[str]" = DEFAULT) -> None:
        self.root = root
        self._names = names
        for name in names:
            os.makedirs(os.path.join(root, name), exist_ok=True)
        self._before = dict(self._look())

    def written(self) -> "Iterator[Tuple[str, str]]":
        """Yield (kept name, path) of each file that is new or changed since."""
        for name, state in self._look():
            if self._before.get(name) != state:
                yield name, os.path.join(self.root, name.replace("/", os.sep))

    def _look(self) -> "Iterator[Tuple[str, Tuple[int, int]]]":
        for top in self._names:
            for folder, folders, files in os.walk(os.path.join(self.root, top)):
                folders.sort()
                for file in sorted(files):
                    path = os.path.join(folder, file)
                    try:
                        state = os.stat(path)
                    except OSError:  # a link to nothing, or gone meanwhile
                        continue
                    yield os.path.relpath(path, self.root).replace(os.sep, "/"), (state.st_mtime_ns, state.st_size)
