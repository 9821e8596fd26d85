"""Bring an offline run into a workspace: its points with their times, its files, tags, properties and children."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Tuple

from windlass._artifact_metrics import address, artifact_name
from windlass._offline_folder import OfflineFolder, offline_runs
from windlass._spools import frames_at, spool_files
from windlass.errors import UserErrorException
from windlass.specs import spool

if TYPE_CHECKING:
    from windlass.run import Run
    from windlass.workspace import Workspace

_NOT_ENDED = "Completed"
"""How a run is taken that its script did not end: outside a workspace scripts rarely do."""


def replay_offline_run(workspace: "Workspace", experiment: Any, run_id: str) -> "Run":
    """A run of the workspace with everything that the offline run kept, its children too.

    Args:
        workspace: Where to.
        experiment: An Experiment, or its name.
        run_id: ``OfflineRun_…``, as the offline run printed or as ``windlass run replay`` lists it.

    Raises:
        UserErrorException: there is no such offline run, or it was replayed already.
    """
    from windlass.experiment import Experiment

    known = experiment if isinstance(experiment, Experiment) else Experiment(workspace, experiment)
    state = OfflineFolder(run_id).read_state()
    if state.get("replayed"):
        raise UserErrorException("The offline run %s was replayed already, as %s." % (run_id, state["replayed"]))
    return _replay(known, state, None)


def _replay(experiment: Any, state: "Dict[str, Any]", parent_id: "str | None") -> "Run":
    from windlass._details import iso_time
    from windlass._run_life import begin_run

    folder = OfflineFolder(state["id"])
    about = {"windlass.offline_run": state["id"], "windlass.offline_start": iso_time(state["created"]) or ""}
    run = begin_run(experiment, {
        "parent_id": parent_id, "display_name": state.get("display_name"), "tags": state.get("tags") or {},
        "properties": dict(state.get("properties") or {}, **about), "submitted_by": state.get("user"),
    }, None)  # fmt: skip
    if state.get("description"):
        run.description = state["description"]
    for name, path in spool_files(folder.spool):
        _send(run, folder, name, path)
    for name, path in sorted(folder.kept().items()):
        run.upload_file(name, path)
    for child in offline_runs():
        if child.get("parent") == state["id"]:
            _replay(experiment, child, run.id)
    _end(run, state)
    folder.write_state(dict(state, replayed=run.id, replayed_at=time.time()))
    return run


def _end(run: "Run", state: "Dict[str, Any]") -> None:
    status = state.get("status")
    if status == "Failed":
        error = state.get("error") or {}
        run.fail(error.get("message"), error.get("code"))
    elif status == "Canceled":
        run.cancel()
    else:
        assert status in ("Running", _NOT_ENDED), status
        run.complete()


def _send(run: "Run", folder: OfflineFolder, name: str, path: str) -> None:
    from windlass._transport.client import quote

    read = sent = 0
    while True:
        data, whole = frames_at(path, read)
        if not whole:
            return
        read += whole
        body = b"".join(_renamed(data[:whole], folder.id, run.id))
        run._client.call(
            "POST", "/v1/runs/%s/spool" % quote(run.id), query={"spool": name, "offset": sent}, body=body,
            content_type="application/octet-stream",
        )  # fmt: skip
        sent += len(body)


def _renamed(data: bytes, old_id: str, new_id: str) -> "Iterator[bytes]":
    """The frames of ``data``; addresses of the offline run's files become those of the new run's."""
    place = 0
    for end, frame in _frames(data):
        name = artifact_name(old_id, frame.value) if frame.kind == spool.JSON else None
        if name is None:
            yield data[place:end]
        else:
            step = spool.NO_STEP if frame.step is None else frame.step
            yield spool.json_frame(frame.series, frame.time_us, step, address(new_id, name))
        place = end


def _frames(data: bytes) -> "Iterator[Tuple[int, spool.Frame]]":
    place = 0
    while place < len(data):
        try:
            for end, frame in spool.decode(data, place):
                yield end, frame
                place = end
        except spool.TornFrame:  # the server counts it as lost; its bytes go as they are
            place = spool.past_damage(data, place)
            yield place, spool.Frame(spool.LOST, 0, 0, None, 1)
