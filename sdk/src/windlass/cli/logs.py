"""``windlass logs``: what a run has printed."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING, Annotated, Any, Dict, List, Optional

import typer

from windlass.cli._follow import follow, log_to, outcome
from windlass.cli._options import RunName, WorkspaceName
from windlass.cli._session import client_of, find_run
from windlass.cli._show import plain, say

if TYPE_CHECKING:
    from windlass._transport.client import Client

_LOGS = "azureml-logs/"
_CHUNK_BYTES = 1 << 16


def logs(
    run: RunName,
    follow_it: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on until the run has ended; then exit with 0 or 1 by its outcome."),
    ] = False,
    file: Annotated[
        Optional[str], typer.Option("--file", metavar="NAME", help="Only this file (default: all of azureml-logs).")
    ] = None,
    workspace: WorkspaceName = None,
) -> None:
    """Print what a run has printed."""
    client = client_of(workspace)
    record = find_run(client, run)
    if follow_it:
        _follow(client, record, file)
        return
    names = _names(client, record["id"])
    wanted = [_one_of(names, file, record["id"])] if file else [name for name in names if name.startswith(_LOGS)]
    if not wanted:
        say("%s has printed nothing yet. It is %s." % (record["id"], record["status"]))
    for name in wanted:
        if len(wanted) > 1:
            say("==> %s" % plain(name), style="dim")
        _copy(client, record["id"], name)


def _follow(client: "Client", record: "Dict[str, Any]", file: "Optional[str]") -> None:
    from windlass.specs.status import RunStatus

    name = _log_name(file) if file else None
    if name and RunStatus(record["status"]).final:
        _one_of(_names(client, record["id"]), name, record["id"])  # what is not there by now never comes
    ended = follow(client, record["id"], log_to(sys.stdout, name))
    say("%s: %s" % (ended["id"], outcome(ended)))
    if ended["status"] != "Completed":
        raise typer.Exit(1)


def _log_name(file: str) -> str:
    from windlass.errors import UserErrorException

    if "/" in file and not file.startswith(_LOGS):
        raise UserErrorException("Only the files of azureml-logs can be followed, not %r. Leave out -f." % file)
    return _LOGS + file[file.rfind("/") + 1 :]


def _names(client: "Client", run_id: str) -> "List[str]":
    from windlass._transport.client import quote

    return [str(entry["path"]) for entry in client.get("/v1/runs/%s/files" % quote(run_id))["files"]]


def _one_of(names: "List[str]", file: str, run_id: str) -> str:
    """The kept file of that name, or the only one of that name in some folder."""
    from windlass._files import no_such_file
    from windlass.errors import UserErrorException

    if file in names:
        return file
    same = [name for name in names if name.endswith("/" + file)]
    if len(same) != 1:
        raise UserErrorException(no_such_file(run_id, file, names))
    return same[0]


def _copy(client: "Client", run_id: str, name: str) -> None:
    from windlass._transport.client import quote

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    answer = client.open("GET", "/v1/runs/%s/files/%s" % (quote(run_id), quote(name)))
    try:
        while True:
            chunk = answer.read(_CHUNK_BYTES)
            sys.stdout.write(decoder.decode(chunk, final=not chunk))
            if not chunk:
                return
    finally:
        answer.close()
