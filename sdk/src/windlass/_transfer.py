"""Files go up to a datastore and come down from it: whole, checked, and skipped where they are already."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, List, NamedTuple, Optional, Sequence, cast

from windlass._files import fetch, inside, open_local
from windlass._handover import hand_over
from windlass._transport.client import quote
from windlass.errors import ServiceUnavailable, UserErrorException, did_you_mean

if TYPE_CHECKING:
    from windlass.datastore import Datastore


class Source(NamedTuple):
    """A local file and its path below the target."""

    place: str
    name: str


def files_below(src_dir: str) -> "List[Source]":
    """All files of a folder, in order.

    Raises:
        UserErrorException: there is no such folder.
    """
    root = os.path.expanduser(os.fspath(src_dir))
    if not os.path.isdir(root):
        parent = os.path.dirname(os.path.abspath(root))
        near = did_you_mean(os.path.basename(root), os.listdir(parent)) if os.path.isdir(parent) else ""
        what = "is a file; use upload_files" if os.path.isfile(root) else "does not exist"
        raise UserErrorException("src_dir=%r (%s) %s.%s" % (src_dir, os.path.abspath(root), what, near))
    found = []
    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        inner = {name: os.path.realpath(os.path.join(folder, name)) for name in sorted(folders)}
        folders[:] = [name for name, real in inner.items() if real not in seen]  # else a link upwards would never end
        seen.update(inner.values())
        for file in sorted(files):
            place = os.path.join(folder, file)
            found.append(Source(place, os.path.relpath(place, root).replace(os.sep, "/")))
    return found


def chosen_files(files: "Sequence[str]", relative_root: "Optional[str]") -> "List[Source]":
    """The given files with their paths below ``relative_root``, or below the folder they have in common.

    Raises:
        UserErrorException: one is not there, or not below ``relative_root``.
    """
    if isinstance(files, (str, os.PathLike)) or not all(isinstance(f, (str, os.PathLike)) for f in files):
        raise UserErrorException("files must be a list of paths such as ['data/a.csv'], not %r." % (files,))
    places = [os.path.expanduser(os.fspath(file)) for file in files]
    for place in places:
        if not os.path.isfile(place):
            raise UserErrorException(
                "The file %r cannot be uploaded: %s." % (
                    place, "it is a folder; use upload" if os.path.isdir(place) else "there is none")
            )  # fmt: skip
    if not places:
        return []
    folders = [os.path.dirname(os.path.abspath(place)) for place in places]
    root = os.path.abspath(os.path.expanduser(relative_root)) if relative_root else os.path.commonpath(folders)
    found = []
    for place in places:
        name = os.path.relpath(os.path.abspath(place), root).replace(os.sep, "/")
        if name.split("/")[0] == os.pardir:
            raise UserErrorException("The file %r is not below relative_root=%r." % (place, relative_root))
        found.append(Source(place, name))
    return found


def upload(store: "Datastore", sources: "Sequence[Source]", target: str, overwrite: bool, show_progress: bool) -> None:
    """Copy local files to ``target`` of a datastore."""
    say = _printer(show_progress)
    say("Uploading an estimated of %d files" % len(sources))
    there = set() if overwrite else {file["path"] for file in store._files(target)}
    wanted = []
    for source in sources:
        name = "%s/%s" % (target, source.name) if target else source.name
        if name in there:
            say("Target already exists. Skipping upload for %s" % name)
        else:
            say("Uploading %s" % source.place)
            wanted.append((name, source.place))
    done = 0
    for file, known in hand_over(store.workspace._client, "/v1/datastores/%s/copies" % store.name, wanted):
        if known is None:
            _send(store, file.place, file.name)
        done += 1
        say("Uploaded %s, %d files out of an estimated total of %d" % (file.place, done, len(sources)))
    say("Uploaded %d files" % done)


def download(store: "Datastore", target_path: str, prefix: str, overwrite: bool, show_progress: bool) -> int:
    """Copy a datastore's files to a local folder; returns how many came."""
    say = _printer(show_progress)
    files = [file["path"] for file in store._files(prefix)]
    address = "/v1/datastores/%s/files/" % store.name
    done = 0
    for name in files:
        target = inside(os.path.expanduser(os.fspath(target_path)), name)
        if os.path.exists(target) and not overwrite:
            say("Target already exists. Skipping download for %s" % target)
            continue
        say("Downloading %s" % name)
        fetch(store.workspace._client, address, name, target)
        done += 1
        say("Downloaded %s, %d files out of an estimated total of %d" % (name, done, len(files)))
    if not files:
        say("The datastore %s has no file whose path begins with %r" % (store.name, prefix))
    return done


def _send(store: "Datastore", place: str, name: str) -> None:
    address = quote("/v1/datastores/%s/files/%s" % (store.name, name))
    with open_local(place) as f:
        body = _Checked(f)
        kept = store.workspace._client.call(
            "PUT", address, body=cast("BinaryIO", body), content_type="application/octet-stream"
        )
    if kept["sha256"] != body.hexdigest():
        raise ServiceUnavailable("The upload of %s does not have its checksum." % place, "Try again.")


class _Checked:
    """A file that is hashed while it is read."""

    def __init__(self, f: BinaryIO) -> None:
        import hashlib

        self._f = f
        self._new = hashlib.sha256
        self._digest = self._new()

    def read(self, size: int = -1) -> bytes:
        piece = self._f.read(size)
        self._digest.update(piece)
        return piece

    def seek(self, place: int) -> int:  # a call that is sent again begins anew
        self._digest = self._new()
        return self._f.seek(place)

    def tell(self) -> int:
        return self._f.tell()

    def fileno(self) -> int:
        return self._f.fileno()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _printer(show_progress: bool) -> Any:
    def say(line: str) -> None:
        if show_progress:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    return say
