"""What agents on other machines and their jobs may call: two tables, in which every call that is not listed is refused.

A row's check says who may call it with which names; it looks at the call and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.specs.launch import Outcome
from windlassd.control.data import resolved
from windlassd.control.kinds import refuse_misfits
from windlassd.control.tokens import Holder
from windlassd.control.workspace import WorkspaceControl
from windlassd.server.agents.call import Call, Refused

Check = Callable[[Call], Awaitable[None]]
_JSON_BYTES = 64 << 20
_PIECE_BYTES = 65 << 20
_CONTENTS_BYTES = 512 << 20
"""Of contents that come together; a big one comes alone, or in pieces."""
_DEEPEST = 64


@dataclass(frozen=True)
class Row:
    """A call that may be made."""

    check: Check
    limit: int | None = _JSON_BYTES
    """Most bytes of its body; None: it goes to the disk as it comes."""


async def _anybody(call: Call) -> None:
    """All of the workspace may be read, and contents be sent."""


# A job


async def _own_run(call: Call) -> None:
    _check_own(call, call.params["run_id"])


async def _listed_children(call: Call) -> None:
    parents = call.query.getlist("parent")
    if not parents:
        raise Refused("A job may list the children of its own run: give `parent`.")
    for parent in parents:
        _check_own(call, parent)


async def _child(call: Call) -> None:
    """A child of its own; one without a parent would be another's notebook."""
    spec = (await call.json()).get("spec")
    parent = spec.get("parent_id") if isinstance(spec, Mapping) else None
    if parent is None:
        raise Refused("A job may begin children of its own run: give `parent_id`.")
    _check_own(call, parent)


async def _held_runs(call: Call) -> None:
    body = await call.json()
    for run_id in [*(body.get("runs") or ()), *([body["run_id"]] if "run_id" in body else ())]:
        _check_own(call, run_id)


async def _further_run(call: Call) -> None:
    """What the script submits: a run of its own, or a child of its own."""
    spec = (await call.json()).get("spec")
    parent = spec.get("parent_id") if isinstance(spec, Mapping) else None
    if parent is not None:
        _check_own(call, parent)


async def _own_model(call: Call) -> None:
    _check_own(call, (await call.json()).get("run_id"))


async def _places_in_datastores(call: Call) -> None:
    definition = (await call.json()).get("definition")
    places = definition.get("places") if isinstance(definition, Mapping) else None
    for place in places if isinstance(places, Sequence) and not isinstance(places, str) else ():
        if not isinstance(place, Mapping) or place.get("datastore") is None or os.path.isabs(str(place.get("path"))):
            raise Refused(
                "A job on another machine than its server can register data of a datastore only: a path of its own "
                "machine means nothing to others. Upload the files to a datastore first."
            )


def _check_own(call: Call, run_id: Any) -> None:
    if not isinstance(run_id, str) or not is_own(call.control, call.holder, run_id):
        raise Refused("A job may do this with its own run, its children and what it submitted, and no other.")


def is_own(control: WorkspaceControl, holder: Holder, run_id: str) -> bool:
    """True for the holder's run, what it submitted, and what descends from these."""
    known = {holder.run_id, *holder.submitted}
    for _ in range(_DEEPEST):
        if run_id in known:
            return True
        record = control.core.read(lambda tx, r=run_id: tx.find_run(r))  # type: ignore[misc]
        if record is None or record.parent_id is None:
            return False
        run_id = record.parent_id
    return False


OF_JOBS: Mapping[tuple[str, str], Row] = {
    ("GET", "/v1/runs/{run_id}"): Row(_own_run),
    ("PATCH", "/v1/runs/{run_id}"): Row(_own_run),
    ("POST", "/v1/runs/{run_id}/cancel"): Row(_own_run),
    ("POST", "/v1/runs/{run_id}/flush"): Row(_own_run),
    ("POST", "/v1/runs/{run_id}/spool"): Row(_own_run, _PIECE_BYTES),
    ("POST", "/v1/runs/{run_id}/end"): Row(_own_run),
    ("GET", "/v1/runs/{run_id}/metrics"): Row(_own_run),
    ("GET", "/v1/runs/{run_id}/stream"): Row(_own_run),
    ("GET", "/v1/runs/{run_id}/files"): Row(_own_run),
    ("GET", "/v1/runs/{run_id}/files/{path:file}"): Row(_own_run),
    ("PUT", "/v1/runs/{run_id}/files/{path:file}"): Row(_own_run, None),
    ("POST", "/v1/runs/{run_id}/copies"): Row(_own_run),
    ("GET", "/v1/runs"): Row(_listed_children),
    ("POST", "/v1/runs"): Row(_further_run),
    ("POST", "/v1/interactive"): Row(_child),
    ("POST", "/v1/clients/{line}/alive"): Row(_held_runs),
    ("POST", "/v1/clients/{line}/runs"): Row(_held_runs),
    ("GET", "/v1/server"): Row(_anybody),
    ("GET", "/v1/workspace"): Row(_anybody),
    ("GET", "/v1/experiments"): Row(_anybody),
    ("GET", "/v1/computes"): Row(_anybody),
    ("GET", "/v1/computes/{name}"): Row(_anybody),
    ("GET", "/v1/models"): Row(_anybody),
    ("POST", "/v1/models"): Row(_own_model),
    ("GET", "/v1/models/{name}/versions/{version}"): Row(_anybody),
    ("GET", "/v1/models/{name}/versions/{version}/files/{path:file}"): Row(_anybody),
    ("GET", "/v1/datasets"): Row(_anybody),
    ("POST", "/v1/datasets"): Row(_places_in_datastores),
    ("GET", "/v1/datasets/{dataset_id}"): Row(_anybody),
    ("GET", "/v1/dataset-names/{name}/versions/{version}"): Row(_anybody),
    ("GET", "/v1/datastores"): Row(_anybody),
    ("GET", "/v1/datastores/{name}"): Row(_anybody),
    ("GET", "/v1/datastores/{name}/files"): Row(_anybody),
    ("GET", "/v1/datastores/{name}/files/{path:file}"): Row(_anybody),
    ("PUT", "/v1/datastores/{name}/files/{path:file}"): Row(_anybody, None),
    ("POST", "/v1/datastores/{name}/copies"): Row(_anybody),
    ("GET", "/v1/environments"): Row(_anybody),
    ("GET", "/v1/environments/{key}"): Row(_anybody),
    ("POST", "/v1/environments/find"): Row(_anybody),
    ("GET", "/v1/registered-environments"): Row(_anybody),
    ("GET", "/v1/registered-environments/{name}"): Row(_anybody),
    ("POST", "/v1/snapshots"): Row(_anybody),
    ("POST", "/v1/blobs"): Row(_anybody, _CONTENTS_BYTES),
    ("POST", "/v1/blob-copies"): Row(_anybody),
    ("POST", "/v1/blobs/missing"): Row(_anybody),
    ("PUT", "/v1/blobs/{sha256}"): Row(_anybody, _PIECE_BYTES),
}
"""Calls of a job, by method and route."""


# An agent


async def _own_name(call: Call) -> None:
    if call.params["name"] != call.holder.agent:
        raise Refused("An agent may speak for itself only.")


async def _own_line(call: Call) -> None:
    """It may hold nothing but its part."""
    await _own_name(call)
    for held in (await call.json()).get("runs") or ():
        named = held if isinstance(held, list) else ()
        _check_part(call, (*named, 0) if len(named) == 2 else named)  # as agents of early protocols name rank 0


async def _own_events(call: Call) -> None:
    await _own_name(call)
    events = (await call.json()).get("events")
    for event in events if isinstance(events, list) else ():
        said = event if isinstance(event, dict) else {}
        _check_part(call, (said.get("run_id"), said.get("attempt"), said.get("rank", 0)))
        if "outcome" in said:
            refuse_misfits(Outcome, said["outcome"], "outcome")


async def _own_spool(call: Call) -> None:
    await _own_name(call)
    if call.query.getlist("run_id") != [call.holder.run_id]:
        raise Refused("An agent may bring what its own part made, and nothing else.")


async def _own_files(call: Call) -> None:
    await _own_name(call)
    said = [call.query.getlist(name) for name in ("run_id", "attempt", "rank")]
    if said != [[str(value)] for value in call.holder.part]:
        raise Refused("An agent may bring what its own part made, and nothing else.")


async def _own_snapshot(call: Call) -> None:
    await _own_name(call)
    record = call.control.core.read(lambda tx: tx.find_run(call.holder.run_id))
    if record is None or call.params["snapshot_id"] not in record.spec.snapshots:
        raise Refused("An agent may have the snapshot of its own run, and no other.")


async def _own_datastore(call: Call) -> None:
    await _own_name(call)
    record = call.control.core.read(lambda tx: tx.find_run(call.holder.run_id))
    named = {place.datastore for data in record.spec.data for place in data.places} if record else set()
    if call.params["store"] not in named:
        raise Refused("An agent may use the datastores that its own run names, and no other.")


async def _own_upload(call: Call) -> None:
    """While no later attempt is there, which writes the same files; what is late must not replace what that wrote."""
    await _own_datastore(call)
    record = call.control.core.read(lambda tx: tx.get_run(call.holder.run_id))
    if record.attempt != call.holder.attempt:
        raise Refused(
            f"The run was begun anew: attempt {record.attempt} writes to its datastores, and attempt "
            f"{call.holder.attempt} no more."
        )


async def _own_probe(call: Call) -> None:
    """In a folder that its own run names."""
    await _own_name(call)
    asked, control = await call.json(), call.control
    record = control.core.read(lambda tx: tx.find_run(call.holder.run_id))
    places = [p for data in resolved(control.core, record.spec, record.id) for p in data.places] if record else []
    named = [{"path": p.path} if p.datastore is None else {"datastore": p.datastore} for p in places]
    if asked not in named:
        raise Refused("An agent may prove that it sees the folders that its own run names, and no others.")


def _check_part(call: Call, part: Sequence[Any]) -> None:
    if tuple(part) != call.holder.part:
        raise Refused("An agent may speak of its own part, and of no other.")


OF_AGENTS: Mapping[tuple[str, str], Row] = {
    ("POST", "/agent/v1/{name}/orders"): Row(_own_line),
    ("POST", "/agent/v1/{name}/events"): Row(_own_events),
    ("POST", "/agent/v1/{name}/spool"): Row(_own_spool, _PIECE_BYTES),
    ("POST", "/agent/v1/{name}/files"): Row(_own_files, None),
    ("DELETE", "/agent/v1/{name}/files"): Row(_own_files),
    ("POST", "/agent/v1/{name}/files/batch"): Row(_own_files, None),
    ("POST", "/agent/v1/{name}/files/settled"): Row(_own_files),
    ("GET", "/agent/v1/{name}/snapshots/{snapshot_id}"): Row(_own_snapshot),
    ("POST", "/agent/v1/{name}/blobs"): Row(_own_name),
    ("GET", "/agent/v1/{name}/datastores/{store}/files"): Row(_own_datastore),
    ("GET", "/agent/v1/{name}/datastores/{store}/files/{path:file}"): Row(_own_datastore),
    ("PUT", "/agent/v1/{name}/datastores/{store}/files/{path:file}"): Row(_own_upload, None),
    ("GET", "/agent/v1/{name}/datastores/{store}/checksums/{path:file}"): Row(_own_datastore),
    ("POST", "/agent/v1/{name}/datastores/{store}/contents"): Row(_own_datastore),
    ("POST", "/agent/v1/{name}/probes"): Row(_own_probe),
    ("DELETE", "/agent/v1/{name}/probes/{probe}"): Row(_own_name),
}
"""Calls of an agent, by method and route. Which contents it may have, the route of blobs looks up itself."""
