"""A run of several nodes as one folder: what its nodes keep, by one rule of names (DESIGN), in the end in one place.

Where two nodes wrote a file of the same name, the lowest rank's has it, and the others' is shown as
``outputs/<node>/…``. ``merge_parts`` makes that true on the disk. What earlier attempts kept is shown as
``attempts/N/…``, to be read only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from windlassd.blobs.run_folder import ATTEMPTS, NODES, RunFolder, entries_of, folders_of, make_read_only


class WholeRun(RunFolder):
    """The folder of a run with those of its other nodes: for the server, which sees them all. Agents see their part."""

    def __init__(self, workspace_dir: str, run_id: str, earlier: int | None = None) -> None:
        super().__init__(workspace_dir, run_id, earlier=earlier)
        self._run_id = run_id

    def others(self) -> Sequence[RunFolder]:
        """The folders of the other nodes that are there, by rank."""
        ranks = _numbers(os.path.join(self.root, NODES))
        return [RunFolder(self.workspace_dir, self._run_id, rank, self.earlier) for rank in ranks]

    def attempts(self) -> Sequence[WholeRun]:
        """What earlier attempts left, by their numbers."""
        numbers = _numbers(os.path.join(self.root, ATTEMPTS)) if self.earlier is None else ()
        return [WholeRun(self.workspace_dir, self._run_id, number) for number in numbers]

    def find(self, name: str) -> str | None:
        """As a part's; the names are those of ``list``."""
        top, _, rest = name.partition("/")
        for attempt in self.attempts() if top == ATTEMPTS else ():
            if rest.startswith(f"{attempt.earlier}/") and (found := attempt.find(rest.partition("/")[2])):
                return found
        return self._find(name)

    def _find(self, name: str) -> str | None:
        found = super().find(name)
        others = () if found else self.others()
        if not others:
            return found
        for other in others:
            if path := other.find(name):
                return path
        if found := super().find(name):  # moved here meanwhile
            return found
        first = name.split("/")[:2]
        if any(word.startswith(other.node) for word in first for other in others):
            return dict(self._now()).get(name)
        return None

    def list(self) -> Sequence[Mapping[str, Any]]:
        """``{"path", "size"}`` of every kept file of all nodes, then of earlier attempts, by path."""
        found = {str(file["path"]): file for file in self._list()}
        for attempt in self.attempts():
            for file in attempt.list():
                name = _of_attempt(attempt, str(file["path"]))
                found[name] = {**file, "path": name}
        return [found[name] for name in sorted(found)]

    def _list(self) -> Sequence[Mapping[str, Any]]:
        if not self.others():
            return super().list()
        found = []
        for name, path in self._now():
            try:
                found.append({"path": name, "size": os.stat(path).st_size})
            except OSError:  # moved or removed meanwhile
                continue
        return found

    def logs(self) -> Sequence[str]:
        """Names of the system logs of all nodes, in the order they are shown."""
        names = {name for other in self.others() for name in other.logs()}
        return sorted(names.union(super().logs()))

    def spools(self) -> Sequence[str]:
        """The folders of metric points of all nodes."""
        return [self.spool, *(other.spool for other in self.others())]

    def left(self) -> Sequence[str]:
        """What only the running job needed and is still there, such as ``work`` or ``nodes/1/spool``."""
        found = list(super().left())
        for other in self.others():
            place = os.path.relpath(other.root, self.root)
            found += [f"{place}/{name}" for name in other.left()]
        return found

    def keep_live(self) -> Sequence[str]:
        """As a part's, for all of them."""
        notes = list(super().keep_live())
        for other in self.others():
            notes += other.keep_live()
        return notes

    def seal(self) -> None:
        """As a part's, for all of them, whose files are in one place afterwards. May be repeated."""
        for other in self.others():
            other.seal()
        self.merge_parts()
        super().seal()

    def seal_parts(self) -> None:
        """As ``seal``, but each node's files stay where they are: one that was lost may yet bring some."""
        for part in (*self.others(), RunFolder(self.workspace_dir, self._run_id)):
            part.seal()

    def merge_parts(self) -> None:
        """Move the files of the other nodes beside those of rank 0, to where they are shown, without copying.

        Only once nobody writes there any more. May be repeated: what was cut short goes on from where it was. Files
        that the kernel cannot take a path for stay where they are.
        """
        others = self.others()
        for other in others:
            if os.path.isdir(other.files) and not os.path.islink(other.files):
                os.makedirs(self.files, mode=0o700, exist_ok=True)
                taken = move_new(other.files, self.files)
                for name in sorted(taken):
                    _move_beside(os.path.join(other.files, name), self.files, name, other.node)
                _remove_empty(other.files)
            other.tidy()
        if others:
            make_read_only(self.files)

    def _own(self) -> Iterator[tuple[str, str]]:
        found = dict(self._now())
        for attempt in self.attempts():
            found.update((_of_attempt(attempt, name), path) for name, path in attempt._own())
        yield from found.items()

    def _now(self) -> Iterator[tuple[str, str]]:
        """As ``_own``, of this attempt alone."""
        others = self.others()
        if not others:
            yield from super()._own()
            return
        # The others' first: at the end of the run they are moved to rank 0's, perhaps right now.
        theirs = [(other.node, dict(other._own())) for other in others]
        own = dict(super()._own())
        yield from own.items()
        for name, there, path in _shown(own, theirs):
            if there == name or os.path.lexists(path):
                yield there, path


def _numbers(folder: str) -> Sequence[int]:
    """The folders in one that have numbers from 1 on, such as ranks."""
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isdecimal() and int(name))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _of_attempt(attempt: WholeRun, name: str) -> str:
    return f"{ATTEMPTS}/{attempt.earlier}/{name}"


def _shown(
    own: Iterable[str], others: Iterable[tuple[str, Mapping[str, str]]]
) -> Iterator[tuple[str, str, str]]:  # fmt: skip
    """Name, the name it is shown by, and path of each file of the other nodes."""
    taken = _Names()
    for name in own:
        taken.add(name)
    for node, files in others:
        late = {name for name in files if taken.has(name)}
        for name in files:
            if name not in late:
                taken.add(name)
                yield name, name, files[name]
        for name in sorted(late):
            there = next(place for place in _beside(name, node) if not taken.has(place))
            taken.add(there)
            yield name, there, files[name]


def _beside(name: str, node: str) -> Iterator[str]:
    """Where a file may be shown whose name another node has: ``outputs/<node>/…``, ``outputs/<node>.2/…``, …"""
    top, _, rest = name.partition("/")
    place, rest = (f"{top}/{node}", rest) if rest else (node, top)
    yield f"{place}/{rest}"
    number = 2
    while True:
        yield f"{place}.{number}/{rest}"
        number += 1


class _Names:
    """Names of files that are taken, and with them those of the folders that they lie in."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        self._files.add(name)
        self._folders.update(_above(name))

    def has(self, name: str) -> bool:
        """True when a file cannot have the name: another has it, or it would lie in a file, or is a folder."""
        return name in self._files or name in self._folders or any(place in self._files for place in _above(name))


def _above(name: str) -> Iterator[str]:
    """The folders that a name lies in, innermost first."""
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def move_new(source: str, target: str) -> Sequence[str]:
    """Move what ``target`` has nothing of that name of; whole folders at once.

    Returns:
        Names of the files (and links) whose names are taken there.
    """
    waiting, taken = [("", True)], []  # no recursion: a script's folders may be nested deeper than Python's calls
    while waiting:
        folder, fits = waiting.pop()
        for entry in entries_of(os.path.join(source, folder)):
            name = f"{folder}/{entry.name}" if folder else entry.name
            there, is_folder = os.path.join(target, name), entry.is_dir(follow_symlinks=False)
            try:
                if fits and not os.path.lexists(there):
                    os.rename(entry.path, there)
                elif is_folder:
                    waiting.append((name, fits and os.path.isdir(there) and not os.path.islink(there)))
                else:
                    taken.append(name)
            except OSError as problem:
                if problem.errno != errno.ENAMETOOLONG:
                    raise
    return taken


def _move_beside(path: str, target: str, name: str, node: str) -> None:
    """Move one file whose name is taken; a link that leads out of where it lies goes, as nothing of it was kept."""
    if os.path.islink(path):
        os.unlink(path)
        return
    for place in _beside(name, node):
        there = os.path.join(target, place)
        try:
            if not os.path.lexists(there):
                os.makedirs(os.path.dirname(there), mode=0o700, exist_ok=True)
                os.rename(path, there)
                return
        except (FileExistsError, NotADirectoryError):  # a file has the name of the folder
            continue
        except OSError as problem:
            if problem.errno != errno.ENAMETOOLONG:
                raise
            return


def _remove_empty(top: str) -> None:
    """Remove the folders below ``top`` that hold nothing any more, and itself when nothing is left."""
    for folder in reversed(list(folders_of(top))):
        try:
            os.rmdir(folder)
        except OSError:  # something has to stay
            continue
