"""What a submit would do, without queueing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from windlass import _submit
from windlass.specs._codec import to_wire

if TYPE_CHECKING:
    from windlass._job import Job
    from windlass._transport.client import Client


def plan(
    client: "Client", experiment: str, job: "Job", tags: "Mapping[str, str]", display_name: "Optional[str]"
) -> "Dict[str, Any]":
    """The run that a submit would make: ``spec``, ``plan`` (engine, steps), ``snapshot`` (id, files, bytes, left_out).

    Everything is checked as for a submit. Contents that the server does not have are sent, so that the submit itself
    is quick.

    Raises:
        AzureMLException: what a submit would raise.
    """
    prepared = _submit.prepare(client, experiment, job, tags, display_name)
    listing = prepared.listing
    snapshot = {
        "id": prepared.spec.snapshot_id, "files": len(listing.files), "bytes": sum(file.size for file in listing.files),
        "left_out": dict(listing.left_out),
    }  # fmt: skip
    return {"spec": to_wire(prepared.spec), "snapshot": snapshot, "plan": _submit.plan(client, prepared)}
