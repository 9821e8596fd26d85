"""What processes of a job elsewhere logged into further runs and could not send themselves, as they were killed.

A run that a script begins (``child_run``, ``start_logging``) has its spools in ``clients/<run id>/spool`` of the part's
workspace folder, files of its charts beside them, and, where no server could be had, word of its end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial

from windlass._away import send_files
from windlass._spools import frames_at, read_end, spool_files
from windlass._transport.client import Client, quote
from windlass.errors import AzureMLException
from windlassd.agent.sources import patiently

log = logging.getLogger(__name__)
_FOR_EVER: Callable[[], bool] = lambda: True  # noqa: E731


def bring_in(client: Client, workspace_dir: str) -> Sequence[str]:
    """Send what lies there, however long the server is away; sentences on what it refused.

    Args:
        client: Speaks for the job.
        workspace_dir: What stands for the workspace's folder here.
    """
    root = os.path.join(workspace_dir, "clients")
    problems = []
    for run_id in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        folder = os.path.join(root, run_id)
        try:
            for spool in (folder, os.path.join(folder, "spool")):
                _send_points(client, run_id, spool)
            _send_end(client, run_id, os.path.join(folder, "spool"))
        except (AzureMLException, OSError, ValueError, KeyError, TypeError) as problem:
            log.warning("what was logged into %s cannot be brought in", run_id, exc_info=True)
            problems.append(f"Not all that its script logged into {run_id} could be kept: {problem}")
    return problems


def _send_points(client: Client, run_id: str, spool: str) -> None:
    for name, path in spool_files(spool):
        start = 0
        while True:
            data, whole = frames_at(path, start)
            if not whole:
                break
            query = {"spool": name, "offset": start}
            answer = patiently(partial(_post, client, run_id, query, data[:whole]), _FOR_EVER)
            if int(answer["acked"]) <= start:
                break
            start = int(answer["acked"])


def _post(client: Client, run_id: str, query: dict[str, object], piece: bytes) -> dict[str, object]:
    answer: dict[str, object] = client.call(
        "POST", f"/v1/runs/{quote(run_id)}/spool", query=query, body=piece, content_type="application/octet-stream"
    )
    return answer


def _put(client: Client, address: str, path: str) -> None:
    with open(path, "rb") as f:
        client.call("PUT", address, body=f, content_type="application/octet-stream")


def _send_end(client: Client, run_id: str, spool: str) -> None:
    """Send the files of charts; and carry out the end that was written down, if one was."""
    patiently(lambda: send_files(client, run_id, spool), _FOR_EVER)
    end = read_end(spool)
    if end is None:
        return
    for name, path in end.get("files", ()):
        patiently(partial(_put, client, f"/v1/runs/{quote(run_id)}/files/{quote(name)}", path), _FOR_EVER)
    told = {"status": end["status"], "reason": end.get("reason")}
    patiently(lambda: client.post(f"/v1/runs/{quote(run_id)}/end", told), _FOR_EVER)
