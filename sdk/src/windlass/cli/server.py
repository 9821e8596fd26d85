"""``windlass server``: the background server of a workspace."""

from __future__ import annotations

import os
import time
from json import loads
from typing import TYPE_CHECKING, Annotated, Any, Dict, Iterator, Mapping, Optional

import typer

from windlass.cli._options import AsJson, StatusGroup, WorkspaceName, noun
from windlass.cli._session import workspace_folder
from windlass.cli._show import ago, as_json, pairs, result

if TYPE_CHECKING:
    from windlass._transport.client import Client

app = noun("The background server of a workspace.", StatusGroup)
_STOP_S = 30.0
_PAUSE_S = 0.02
_ANSWER_S = 10.0
"""A server that does not answer in this time was stopped, or is in trouble: say so instead of waiting."""


@app.command("start")
def start(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Start the server if it is not running."""
    from windlass._transport.client import Client
    from windlass.cli._session import open_workspace

    folder = open_workspace(workspace)._dir
    about = Client(folder).get("/v1/server")
    if json:
        as_json({"running": True, **about})
    else:
        result("%s: running (pid %d) at %s" % (about["workspace"], about["pid"], about["web"]))


@app.command("stop")
def stop(
    force: Annotated[
        bool, typer.Option("--force", help="Also when runs have not ended; they are canceled first.")
    ] = False,
    workspace: WorkspaceName = None,
) -> None:
    """Stop the server.

    It comes back with the next command or script that needs it.
    """
    folder = workspace_folder(workspace)
    client, about = _asked(folder)
    if about is None:
        result("%s: not running" % os.path.basename(folder))
        return
    client.post("/v1/server/stop", {"force": force})
    _wait_for_end(folder, about["pid"])
    result("%s: stopped" % about["workspace"])


@app.command("status")
def status(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Tell whether the server runs, and where.

    Starts nothing.
    """
    folder = workspace_folder(workspace)
    _, about = _asked(folder)
    if json:
        absent = {"workspace": os.path.basename(folder), "workspace_dir": folder}
        as_json({"running": about is not None, **(about or absent)})
    elif about is None:
        result("%s: not running. It starts by itself when something needs it." % os.path.basename(folder))
    else:
        pairs([
            ("Workspace", about["workspace"]),
            ("Running", "pid %d, started %s" % (about["pid"], ago(about["started"]))),
            ("Address", about["web"]), ("Version", about["version"]), ("Active runs", str(about["active_runs"])),
            ("Agents", ", ".join("%s (pid %d)" % (agent["name"], agent["pid"]) for agent in about["agents"])),
            *(("Note", agent["note"]) for agent in about["agents"] if agent.get("note")),
            *_agents_elsewhere(about),
            ("Folder", about["workspace_dir"]), ("Socket", about["socket"]),
        ])  # fmt: skip


def _agents_elsewhere(about: "Mapping[str, Any]") -> "Iterator[tuple[str, str]]":
    """Where agents on other machines call, and what keeps them from it; nothing while no compute target has any."""
    yield "Nodes call", ", ".join(about.get("agents_at") or ())
    yield "Trouble", about.get("agents_trouble") or ""


def _asked(folder: str) -> "tuple[Client, Optional[Dict[str, Any]]]":
    """What the server tells of itself; None when it does not run."""
    from windlass._transport import autostart
    from windlass._transport.client import Client

    client = Client(folder, start=False)
    if not autostart.is_running(folder):
        return client, None
    return client, loads(client.open("GET", "/v1/server", timeout_s=_ANSWER_S).read().decode())


def _wait_for_end(folder: str, pid: int) -> None:
    """Return when the server has let go of the workspace.

    Its lock tells, not its process id: a server whose starter still lives stays in the process table.

    Raises:
        ServiceUnavailable: it still holds it after half a minute.
    """
    import fcntl

    from windlass._transport.places import server_dir
    from windlass.errors import ServiceUnavailable

    deadline = time.monotonic() + _STOP_S
    with open(os.path.join(server_dir(folder), "server.lock"), "a") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(_PAUSE_S)
    raise ServiceUnavailable(
        "The server (pid %d) has not ended in %g s." % (pid, _STOP_S), "Look at `windlass server status`."
    )
