"""A run's data on this node: used in place, copied before the script starts, or copied back when it has ended."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from windlass.errors import UserErrorException
from windlass.settings import INPUTS_VARIABLE, OUTPUTS_VARIABLE, REFERENCE_VARIABLE
from windlass.specs.data import (
    DIRECT,
    DOWNLOAD,
    INPUT,
    MOUNT,
    OUTPUT,
    PLACEHOLDERS,
    REFERENCE,
    UPLOAD,
    DataPlace,
    DataSpec,
    chosen,
    common_names,
    is_pattern,
)
from windlass.specs.launch import LaunchSpec
from windlassd.blobs.datastore_folder import DatastoreFolder, copy
from windlassd.blobs.run_folder import RunFolder

_FOLDER = "azureml-data"
"""In the script's working folder: where data goes that names no place of its own."""
_PLACEHOLDER = re.compile(f"(?:{'|'.join(PLACEHOLDERS.values())})[A-Za-z0-9_]+")


@dataclass(frozen=True)
class DataOnNode:
    """What the script is told of its data."""

    variables: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    """Placeholder in an argument → what stands there instead."""

    def arguments(self, given: Sequence[str], *, shell: bool = False) -> tuple[str, ...]:
        """Arguments with their placeholders replaced; quoted when a ``shell`` reads them."""
        texts = {name: shlex.quote(text) if shell else text for name, text in self.texts.items()}
        return tuple(_PLACEHOLDER.sub(lambda m: texts.get(m[0], m[0]), argument) for argument in given)


def prepare(
    launch: LaunchSpec, folder: RunFolder, taken: Mapping[str, str], stopped: Callable[[], bool] = lambda: False
) -> DataOnNode:
    """Make the launch's data ready.

    Args:
        launch: What is to run.
        folder: Where.
        taken: Variables that no dataset input may replace.
        stopped: Asked between files; once it is true, no more are copied.

    Raises:
        UserErrorException: data is not there, leads out of its datastore, or its place is taken.
    """
    variables: dict[str, str] = {}
    texts: dict[str, str] = {}
    for data in launch.data:
        value = str(data.dataset["id"]) if data.mode == DIRECT else _ready(data, folder, stopped)
        if data.kind in PLACEHOLDERS:
            if data.name in taken or data.name in variables:
                raise UserErrorException(
                    f"The data {data.name!r} has the name of an environment variable of the job; choose another."
                )
            variables[data.name] = value
            texts[PLACEHOLDERS[data.kind] + data.name] = value
        if data.mode != DIRECT:
            variables[REFERENCE_VARIABLE + data.name] = value
    for kind, variable in ((INPUT, INPUTS_VARIABLE), (OUTPUT, OUTPUTS_VARIABLE)):
        names = [data.name for data in launch.data if data.kind == kind]
        if names:
            variables[variable] = ",".join(names)
    return DataOnNode(variables, texts)


def copy_back(launch: LaunchSpec, folder: RunFolder, ended_well: bool) -> Sequence[str]:
    """Bring what the script wrote to the datastores. May be repeated.

    Returns:
        Sentences on what could not be brought there; empty when all is well.
    """
    problems: list[str] = []
    for data in launch.data:
        if data.mode == UPLOAD:
            try:
                _upload(data, folder, ended_well)
            except (OSError, UserErrorException) as problem:
                problems.append(f"The data {data.name!r} could not be copied to its datastore: {problem}")
    return problems


def files_of(data: DataSpec) -> Sequence[tuple[str, str]]:
    """``(relative, absolute)`` of the data's files, in order, with the dataset's steps applied."""
    files: list[tuple[str, str]] = []
    for place in data.places:
        root, path = _source(place)
        matched = root.match(path, pattern=data.kind != REFERENCE)
        if not matched and not os.path.isdir(root.place(path)):
            raise UserErrorException(f"The data {data.name!r} is not there: {root.shown} has nothing at {path!r}.")
        files += [pair for pair in matched if pair not in files]
    if len(data.places) > 1:
        fulls = list(dict.fromkeys(full for _, full in files))
        files = list(zip(common_names(fulls), fulls, strict=True))
    steps = (data.dataset.get("definition") or {}).get("steps") or ()
    return [files[place] for place in chosen(len(files), steps)]


def to_upload(data: DataSpec, folder: RunFolder, ended_well: bool) -> Iterator[tuple[str, str]]:
    """``(source, path in the datastore)`` of each file that the script wrote for a piece of data that is copied back.

    Raises:
        UserErrorException: it wrote nothing though it ended well, or a link leads out of its working folder.
    """
    path, source = data.places[0].path, _place_in_work(data, folder)
    _refuse_leading_out(source, folder)
    if os.path.isfile(source):
        yield source, "/".join(p for p in (path, os.path.basename(source)) if p)
    elif not os.path.isdir(source) and ended_well:
        raise UserErrorException(f"the script wrote nothing to {data.path_on_compute or source}.")
    for found, _, names in os.walk(source):
        for name in sorted(names):
            full = os.path.join(found, name)
            relative = os.path.relpath(full, source)
            if data.globs and not any(fnmatch.fnmatch(relative, pattern) for pattern in data.globs):
                continue
            _refuse_leading_out(full, folder)
            if os.path.isfile(full):
                yield full, f"{path}/{relative}" if path else relative


def _ready(data: DataSpec, folder: RunFolder, stopped: Callable[[], bool]) -> str:
    if data.mode == UPLOAD:
        place = _place_in_work(data, folder)
        os.makedirs(os.path.dirname(place) if data.path_on_compute else place, exist_ok=True)
        return place
    if data.mode == DOWNLOAD:
        return _download(data, folder, stopped)
    if data.kind == OUTPUT:
        place = _source(data.places[0])[0].place(data.places[0].path)
        os.makedirs(place, exist_ok=True)
        return place
    return _mounted(data, folder)


def _mounted(data: DataSpec, folder: RunFolder) -> str:
    """The data in place; when it is no single file or folder, a folder of links to it."""
    if _is_one(data):
        root, path = _source(data.places[0])
        place = root.place(path)
        if data.kind == INPUT and not os.path.exists(place):
            raise UserErrorException(f"The data {data.name!r} is not there: {root.shown} has no {path!r}.")
        if data.path_on_compute:
            link = _place_in_work(data, folder)
            _refuse_taken(link, data)
            os.symlink(place, link)
            return link
        return place
    base = _place_in_work(data, folder)
    for relative, full in files_of(data):
        link = _target_in(base, relative)
        os.symlink(full, link)
    return base


def _download(data: DataSpec, folder: RunFolder, stopped: Callable[[], bool]) -> str:
    base = _place_in_work(data, folder)
    root, path = _source(data.places[0])
    if _is_one(data) and os.path.isfile(root.place(path)):
        target = base if data.path_on_compute else os.path.join(base, os.path.basename(path))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _bring(root.place(path), target, data)
        return target
    os.makedirs(base, exist_ok=True)
    for relative, full in files_of(data):
        if stopped():
            break
        _bring(full, _target_in(base, relative), data)
    return base


def _bring(source: str, target: str, data: DataSpec) -> None:
    if os.path.lexists(target) and not data.overwrite:
        _refuse_taken(target, data)
    copy(source, target)


def _is_one(data: DataSpec) -> bool:
    steps = (data.dataset.get("definition") or {}).get("steps")
    named = data.kind == REFERENCE or not is_pattern(data.places[0].path)
    return len(data.places) == 1 and named and not steps


def _source(place: DataPlace) -> tuple[DatastoreFolder, str]:
    """The folder that a place lies in, and its path there."""
    if place.datastore is None:
        return DatastoreFolder("/", "this machine", links_out=True), place.path
    if place.root is None or not os.path.isdir(place.root):
        what = f"its folder {place.root} is gone" if place.root else "it is not registered any more"
        raise UserErrorException(f"The datastore {place.datastore!r} cannot be used: {what}.")
    return DatastoreFolder(place.root, f"the datastore {place.datastore!r}"), place.path


def _upload(data: DataSpec, folder: RunFolder, ended_well: bool) -> None:
    root, _ = _source(data.places[0])
    for source, path in to_upload(data, folder, ended_well):
        _send(source, root.target(path), data)


def _refuse_leading_out(path: str, folder: RunFolder) -> None:
    real = os.path.realpath(path)
    if not real.startswith(os.path.realpath(folder.work) + os.sep):
        raise UserErrorException(f"{path} leads out of the script's working folder, to {real}.")


def _send(source: str, target: str, data: DataSpec) -> None:
    if os.path.exists(target) and not data.overwrite and not _same(source, target):
        raise UserErrorException(f"{target} exists with other content. Use as_upload(overwrite=True) to replace it.")
    copy(source, target)


def _same(one: str, other: str) -> bool:
    """Whether both are the same file's copies: a copy keeps the time, which makes repeating cheap."""
    a, b = os.stat(one), os.stat(other)
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _place_in_work(data: DataSpec, folder: RunFolder) -> str:
    given = data.path_on_compute or f"{_FOLDER}/{data.name}"
    place = os.path.normpath(os.path.join(folder.work, given))
    real, root = os.path.realpath(os.path.dirname(place)), os.path.realpath(folder.work)
    if not place.startswith(folder.work + os.sep) or not (real + os.sep).startswith(root + os.sep):
        raise UserErrorException(
            f"path_on_compute={given!r} of the data {data.name!r} must be a path below the script's working folder."
        )
    if data.mode == MOUNT:
        os.makedirs(os.path.dirname(place), exist_ok=True)
    return place


def _target_in(base: str, relative: str) -> str:
    target = os.path.join(base, relative)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    return target


def _refuse_taken(target: str, data: DataSpec) -> None:
    if os.path.lexists(target):
        raise UserErrorException(
            f"The data {data.name!r} cannot go to {target}: the source folder has a file there. Choose another "
            "path_on_compute, or pass overwrite=True."
        )
