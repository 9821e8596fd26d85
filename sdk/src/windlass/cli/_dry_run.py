"""What a submit would do, without queueing anything."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from windlass import _snapshot, _submit
from windlass._git import GitState
from windlass.specs._codec import to_wire
from windlass.specs.run import RunSpec

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
    root = _submit.check_source(job.source_directory)
    script = _submit.check_script(root, job)
    git = GitState(root)
    try:
        _submit.check_counts(client, job)
        listing = _snapshot.list_files(root)
        _submit.check_listed(script, job, listing)
        _submit.check_shadowing(job, listing.files)
        snapshot_id = _snapshot.take(client, listing.files)
        facts = git.read()
    finally:
        git.close()
    spec = to_wire(RunSpec(
        experiment=experiment, script=script, snapshot_id=snapshot_id, target=job.target, arguments=job.arguments,
        environment=job.environment, environment_variables=job.environment_variables, node_count=job.node_count,
        process_count_per_node=job.process_count_per_node, max_run_duration_s=job.max_run_duration_s,
        framework=job.framework, communicator=job.communicator, display_name=display_name, tags=tags,
        source_directory=root, git=facts,
    ))  # fmt: skip
    answer = client.post("/v1/runs", {"request_id": str(uuid.uuid4()), "spec": spec, "dry_run": True})
    snapshot = {
        "id": snapshot_id, "files": len(listing.files), "bytes": sum(file.size for file in listing.files),
        "left_out": dict(listing.left_out),
    }  # fmt: skip
    return {"spec": spec, "snapshot": snapshot, "plan": answer["plan"]}
