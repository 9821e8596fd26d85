"""Where a dataset's files are: given paths become places, places become files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from windlass import settings
from windlass._not_offered import not_offered
from windlass.data_reference import DataPath, DataReference, store_path
from windlass.errors import UserErrorException
from windlass.specs.data import DataPlace, chosen, common_names, fixed_part, is_pattern, pattern_expression

if TYPE_CHECKING:
    from windlass.workspace import Workspace


class DataFile(NamedTuple):
    """One file of a dataset."""

    name: str
    """Its path in the dataset."""
    place: str
    """Where it lies: on this machine, or in the datastore."""
    datastore: Optional[str] = None
    changed: Optional[float] = None
    """When it was changed last, in Unix seconds, where its datastore said so."""


class Given(NamedTuple):
    """What a user gave as ``path``: the places, and the workspace of their datastores (None: local paths only)."""

    places: "List[DataPlace]"
    workspace: "Optional[Workspace]"


def given_places(path: Any) -> Given:
    """The places of ``path``: text, a DataPath or DataReference, a pair (datastore, path), or a list of those.

    Raises:
        NotOffered: it is an address on the web.
        UserErrorException: it is nothing of this kind.
    """
    entries = list(path) if isinstance(path, list) else [path]
    if not entries:
        raise UserErrorException("path is an empty list; give a path, or (datastore, path).")
    found = Given([], None)
    for entry in entries:
        one = _given_place(entry)
        workspace = found.workspace or one.workspace
        if one.workspace is not None and one.workspace != workspace:
            raise UserErrorException("The paths lie in datastores of two workspaces; a dataset belongs to one.")
        found = Given(found.places + one.places, workspace)
    return found


def _given_place(entry: Any) -> Given:
    if isinstance(entry, DataReference):
        entry = (entry.datastore, entry.path_on_datastore or "")
    elif isinstance(entry, DataPath):
        entry = (entry._datastore, entry.path_on_datastore or "")
    if isinstance(entry, (tuple, list)) and len(entry) == 2 and hasattr(entry[0], "datastore_type"):
        store, inside = entry
        paths = inside if isinstance(inside, list) else [inside]
        return Given([DataPlace(store_path(path), store.name) for path in paths], store.workspace)
    if hasattr(entry, "datastore_type"):
        return Given([DataPlace("", entry.name)], entry.workspace)
    if not isinstance(entry, (str, os.PathLike)):
        raise UserErrorException(
            "path=%r: give a path, (datastore, 'path in it'), a DataPath, or a list of those." % (entry,)
        )
    text = os.fspath(entry)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        if text.startswith("file://"):
            text = text[len("file://") :]
        else:
            raise not_offered("The dataset path %r" % text, "Download the file and give its path.")
    full = os.path.abspath(os.path.expanduser(text)).replace(os.sep, "/")
    return Given([DataPlace(full)], None)


def files_of(
    workspace: "Optional[Workspace]", places: "Sequence[DataPlace]", steps: "Sequence[Mapping[str, Any]]" = ()
) -> "List[DataFile]":
    """The files of a dataset, in order, with ``take``, ``skip`` and ``sample`` of its steps applied."""
    found: "Dict[str, DataFile]" = {}
    stores = _stores(workspace) if any(place.datastore for place in places) else {}
    for place in places:
        for file in _in_store(workspace, place) if place.datastore else _local(place.path):
            found.setdefault("%s\0%s" % (file.datastore, file.place), file)
    files = list(found.values())
    if len(places) > 1:
        fulls = [_full(file, stores) for file in files]
        names = common_names(fulls)
        files = [file._replace(name=names[i]) for i, file in enumerate(files)]
    return [files[place] for place in chosen(len(files), steps)]


def local_path(workspace: "Optional[Workspace]", file: DataFile) -> str:
    """Where the file's bytes lie on this machine; to a job on another than the server's they are brought first.

    Raises:
        UserErrorException: they lie on another, or lead out of their datastore.
    """
    if file.datastore is None:
        return file.place
    from windlass._files import inside

    if settings.elsewhere() and workspace is not None:
        from windlass._fetched_files import fetched

        return fetched(workspace, file)
    root = str(_stores(workspace)[file.datastore])
    if not os.path.isdir(root):
        raise UserErrorException(
            "The datastore %r is a folder of another machine (%s). Use download()." % (file.datastore, root)
        )
    return inside(root, file.place)


def _stores(workspace: "Optional[Workspace]") -> "Dict[str, str]":
    """Folders of the datastores by name."""
    if workspace is None:
        raise UserErrorException("This dataset lies in a datastore; get it from a workspace: Dataset.get_by_name.")
    return {entry["name"]: entry["path"] for entry in workspace._client.get("/v1/datastores")["datastores"]}


def _full(file: DataFile, stores: "Mapping[str, str]") -> str:
    return file.place if file.datastore is None else "%s/%s" % (os.path.realpath(stores[file.datastore]), file.place)


def _in_store(workspace: "Optional[Workspace]", place: DataPlace) -> "List[DataFile]":
    from windlass._transport.client import quote

    assert workspace is not None and place.datastore is not None
    base = fixed_part(place.path) if is_pattern(place.path) else place.path
    address = "/v1/datastores/%s/files" % quote(place.datastore)
    listed = workspace._client.get(address, prefix=base or None)["files"]
    changed = {entry["path"]: entry["modified"] for entry in listed}
    names = _chosen(list(changed), place.path, base)
    return [DataFile(_below(name, base), name, place.datastore, changed[name]) for name in names]


def _local(path: str) -> "List[DataFile]":
    base = fixed_part(path) if is_pattern(path) and not os.path.exists(path) else path
    if os.path.isfile(base):
        return [DataFile(os.path.basename(base), base)]
    names = []
    for folder, folders, files in os.walk(base or "/"):
        folders.sort()
        names += [os.path.join(folder, name).replace(os.sep, "/") for name in files]
    return [DataFile(_below(name, base), name) for name in _chosen(sorted(names), path, base)]


def _chosen(names: "Sequence[str]", path: str, base: str) -> "List[str]":
    """Those of ``names`` that ``path`` stands for, whose fixed part is ``base``."""
    if base == path:
        return [name for name in names if not base or name == base or name.startswith(base + "/")]
    expression = re.compile(pattern_expression(path))
    return [name for name in names if expression.match(name)]


def _below(name: str, base: str) -> str:
    if name == base:
        return name.split("/")[-1]
    return name[len(base) + 1 :] if base else name
