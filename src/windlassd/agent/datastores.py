"""Where a part's data is: in the datastores' own folders, or on a node that does not see them brought there and back.

Elsewhere a node proves that it sees a folder of the server's machine by reading a file that the server has just written
there; then the folder is used in place. If not, each piece of data gets a folder in the part's own that is laid out as
its datastore, with the files that are asked for, so that ``data.py`` works on it as on the datastore. What the script
wrote there is sent to the server at the end.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from windlass._transport.client import Client, quote
from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException
from windlass.specs.data import (
    DIRECT,
    MOUNT,
    OUTPUT,
    REFERENCE,
    UPLOAD,
    DataPlace,
    DataSpec,
    fixed_part,
    is_pattern,
    pattern_expression,
)
from windlass.specs.launch import LaunchSpec
from windlassd.agent import data
from windlassd.agent.data_cache import Changed, DataCache, RemoteFile
from windlassd.agent.sources import Wanted, patiently
from windlassd.blobs.datastore_folder import PART, DatastoreFolder, parts_of
from windlassd.blobs.run_folder import DATA_LOG, RunFolder, sha256_of

log = logging.getLogger(__name__)
_FOLDER, _STATE = "data", "data.json"
"""In the agent's folder of the part."""
_TRIES = 3
State = dict[str, Any]


class Datastores(Protocol):
    """How a part comes to its data."""

    def bring(self, launch: LaunchSpec, folder: RunFolder, wanted: Wanted) -> LaunchSpec:
        """The launch with datastores that are folders of this machine, in which all that it asks for is.

        Raises:
            UserErrorException: something cannot be had here; the message says what to do.
            ServiceUnavailable: the server was away until ``wanted`` gave False.
        """
        ...

    def send_back(self, launch: LaunchSpec, folder: RunFolder, ended_well: bool) -> Sequence[str]:
        """Bring what the script wrote to the datastores. May be repeated.

        Returns:
            Sentences on what could not be brought there.
        """
        ...


class OwnFolders:
    """On the server's machine."""

    def bring(self, launch: LaunchSpec, folder: RunFolder, wanted: Wanted) -> LaunchSpec:
        """All is there."""
        return launch

    def send_back(self, launch: LaunchSpec, folder: RunFolder, ended_well: bool) -> Sequence[str]:
        """Copy it."""
        return data.copy_back(launch, folder, ended_well)


class FetchedFolders:
    """On another machine.

    Args:
        client: To the server.
        agent: Name of the agent whose token the client sends.
        cache: Of this node.
    """

    def __init__(self, client: Client, agent: str, cache: DataCache) -> None:
        self._client = client
        self._base = f"/agent/v1/{quote(agent)}"
        self._cache = cache

    def bring(self, launch: LaunchSpec, folder: RunFolder, wanted: Wanted) -> LaunchSpec:
        """See ``Datastores.bring``."""
        if not any(spec.mode != DIRECT for spec in launch.data):
            return launch
        seen: dict[str, bool] = {}
        state: State = {"in_place": [], "files": {}}
        specs = []
        for spec in launch.data:
            if spec.mode != DIRECT and not all(self._is_seen(spec, place, seen, wanted) for place in spec.places):
                spec = self._brought(spec, folder, state, wanted)
                _tell_when(spec, launch, folder)
            else:
                state["in_place"].append(spec.name)
            specs.append(spec)
        _write(folder, state)
        return replace(launch, data=tuple(specs))

    def send_back(self, launch: LaunchSpec, folder: RunFolder, ended_well: bool) -> Sequence[str]:
        """See ``Datastores.send_back``; however long the server is away."""
        state = _read(folder)
        if state is None:  # it ended before its data was there
            return []
        problems: list[str] = []
        for spec in launch.data:
            if spec.name in state["in_place"]:
                problems += data.copy_back(replace(launch, data=(spec,)), folder, ended_well)
                continue
            try:
                self._send_back(spec, folder, state, ended_well)
            except (OSError, AzureMLException) as problem:
                problems.append(f"The data {spec.name!r} could not be sent to its datastore: {problem}")
        return problems

    # What this node sees by itself

    def _is_seen(self, spec: DataSpec, place: DataPlace, seen: dict[str, bool], wanted: Wanted) -> bool:
        """Whether this node sees the folder of a place itself.

        Raises:
            UserErrorException: it does not, and the place is no datastore's, so it cannot be had here at all.
        """
        asked = {"path": place.path} if place.datastore is None else {"datastore": place.datastore}
        key = json.dumps(asked)
        why = ""
        if key not in seen:
            seen[key], why = self._prove(asked, wanted)
        if place.datastore is None and not seen[key]:
            raise UserErrorException(
                f"The data {spec.name!r} is {place.path} of the server's machine, and this node does not see that: "
                f"{why} Upload it to a datastore (Datastore.upload, or Dataset.File.upload_directory) and name that, "
                "or give both machines one file system there."
            )
        return seen[key]

    def _prove(self, asked: Mapping[str, str], wanted: Wanted) -> tuple[bool, str]:
        """Whether a file that the server writes just now can be read here; else why it was not."""
        probe = patiently(lambda: self._client.post(f"{self._base}/probes", asked), wanted)
        if probe.get("path") is None:
            return False, f"the server cannot write a file there to prove it ({probe.get('why')})."
        try:
            with open(probe["path"], encoding="ascii") as f:
                same = f.read(1000) == probe["content"]
        except (OSError, ValueError):
            same = False
        patiently(lambda: self._client.delete(f"{self._base}/probes/{quote(probe['id'])}"), wanted)
        return same, "a file that the server has just written there is not here."

    # There

    def _brought(self, spec: DataSpec, folder: RunFolder, state: State, wanted: Wanted) -> DataSpec:
        """The piece of data with folders of its own on this node."""
        for tries in range(_TRIES):
            try:
                return self._laid_out(spec, folder, state, wanted)
            except Changed as problem:
                log.warning("%s", problem)
                if tries + 1 == _TRIES:
                    words = f"The data {spec.name!r} changes while it is fetched: {problem} Submit the run again."
                    raise UserErrorException(words) from problem
        raise AssertionError("unreachable")

    def _laid_out(self, spec: DataSpec, folder: RunFolder, state: State, wanted: Wanted) -> DataSpec:
        roots = {place.datastore: _root(folder, spec, place) for place in spec.places}
        for root in roots.values():
            os.makedirs(root, mode=0o700, exist_ok=True)
        own = replace(spec, places=tuple(replace(place, root=roots[place.datastore]) for place in spec.places))
        if spec.mode == UPLOAD or spec.kind == OUTPUT:
            return own
        found: dict[str, RemoteFile] = {}
        for place in spec.places:
            found.update(self._matching(spec, place, roots[place.datastore], wanted))
        if spec.dataset.get("definition", {}).get("steps"):
            found = _chosen(own, found)
        self._cache.put_out([(file, path) for path, file in found.items()], wanted)
        state["files"][spec.name] = {path: _look(path) for path in found}
        return own

    def _matching(
        self, spec: DataSpec, place: DataPlace, root: str, wanted: Wanted
    ) -> Iterator[tuple[str, RemoteFile]]:  # fmt: skip
        """``(path here, file)`` of what a place stands for."""
        assert place.datastore is not None
        pattern = spec.kind != REFERENCE and is_pattern(place.path)
        path = "/".join(parts_of(place.path, f"the datastore {place.datastore!r}"))
        base = fixed_part(path) if pattern else path
        fits = re.compile(pattern_expression(path)).match if pattern else None
        for file in self._cache.listed(place.datastore, base, wanted):
            inside = not base or file.path == base or file.path.startswith(base + "/")
            if inside and (fits is None or fits(file.path)):
                yield os.path.join(root, file.path), file

    # And back

    def _send_back(self, spec: DataSpec, folder: RunFolder, state: State, ended_well: bool) -> None:
        if spec.mode == UPLOAD:
            for source, path in data.to_upload(spec, folder, ended_well):
                self._send(spec, spec.places[0], source, path, spec.overwrite)
        elif spec.mode == MOUNT and spec.kind in (OUTPUT, REFERENCE):
            before = state["files"].get(spec.name, {})
            for place in spec.places:
                for source, path in _written(_root(folder, spec, place), before):
                    self._send(spec, place, source, path, True)

    def _send(self, spec: DataSpec, place: DataPlace, source: str, path: str, overwrite: bool) -> None:
        address = f"{self._base}/datastores/{quote(str(place.datastore))}"
        target = f"{address}/files/{quote(path)}"
        asked = {} if overwrite else {"overwrite": "false"}
        with open(source, "rb") as content:
            own = sha256_of(source)

            def put() -> Any:
                content.seek(0)
                return self._client.call(
                    "PUT", target, query=asked, body=content, content_type="application/octet-stream"
                )

            try:
                kept = patiently(put, _always)
            except ServiceUnavailable:
                raise
            except AzureMLException as problem:
                there = None if overwrite else self._checksum(address, path)
                if there is None:
                    raise
                if there != own:
                    raise UserErrorException(
                        f"{path} exists in the datastore {place.datastore!r} with other content. Use "
                        "as_upload(overwrite=True) to replace it."
                    ) from problem
                return
        if kept["sha256"] != own:
            raise UserErrorException(f"{path} arrived damaged in the datastore {place.datastore!r}.")

    def _checksum(self, address: str, path: str) -> str | None:
        try:
            return str(patiently(lambda: self._client.get(f"{address}/checksums/{quote(path)}"), _always)["sha256"])
        except ServiceUnavailable:
            raise
        except AzureMLException:
            return None


def _tell_when(spec: DataSpec, launch: LaunchSpec, folder: RunFolder) -> None:
    """Say in a log that a mounted output is not in its datastore at once, as it would be on the server's machine."""
    if spec.kind != OUTPUT or spec.mode != MOUNT:
        return
    stores = ", ".join(repr(place.datastore) for place in spec.places)
    stem, suffix = os.path.splitext(DATA_LOG)
    with open(folder.log(f"{stem}_{launch.node_rank}{suffix}"), "a", encoding="utf-8") as out:
        out.write(
            f"{spec.name}: {launch.node} does not see the folder of {stores} itself. What the script writes there is "
            "kept on the node, and sent when the run has ended.\n"
        )


def _always() -> bool:
    return True


def _root(folder: RunFolder, spec: DataSpec, place: DataPlace) -> str:
    """The folder here that stands for the datastore of a place."""
    return os.path.join(folder.agent, _FOLDER, f"{spec.kind}-{spec.name}", str(place.datastore))


def _chosen(own: DataSpec, found: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    """Those of the files that the dataset's steps choose; empty ones stand in for the others, so that these count."""
    for path in found:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    return {path: found[path] for _, path in data.files_of(own)}


def _written(root: str, before: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, str]]:
    """``(source, path in the datastore)`` of files that were not laid out, or were changed since.

    Raises:
        UserErrorException: a link leads out of the folder.
    """
    inside = DatastoreFolder(root, "the folder of the data on this node")
    for place, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *names]):
            source = os.path.join(place, name)
            path = os.path.relpath(source, root)
            inside.place(path)
            if name.endswith(PART) or not os.path.isfile(source):
                continue
            if list(before.get(source, ())) != _look(source):
                yield source, path


def _look(path: str) -> list[int]:
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns, state.st_ino]


def _write(folder: RunFolder, state: State) -> None:
    path = os.path.join(folder.agent, _STATE)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(state, f)
    os.replace(path + ".tmp", path)


def _read(folder: RunFolder) -> State | None:
    try:
        with open(os.path.join(folder.agent, _STATE), encoding="utf-8") as f:
            found: State = json.load(f)
            return found
    except FileNotFoundError:
        return None
