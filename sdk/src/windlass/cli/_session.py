"""Which workspace a command is about, and which run somebody means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

if TYPE_CHECKING:
    from windlass._transport.client import Client
    from windlass.workspace import Workspace

LAST = "last"
_PAGE = 1000
_SHOWN = 5
_chosen: "Optional[str]" = None


def choose(name: "Optional[str]") -> None:
    """Take ``name`` (``windlass -w NAME …``) as the workspace of the commands that name none themselves."""
    global _chosen
    _chosen = name


def open_workspace(name: "Optional[str]") -> "Workspace":
    """The workspace of that name, or the one that the nearest ``config.json`` names.

    Raises:
        UserErrorException: there is none.
    """
    from windlass.workspace import Workspace

    wanted = name or _chosen
    return Workspace.get(wanted) if wanted else Workspace.from_config()


def workspace_folder(name: "Optional[str]") -> str:
    """As ``open_workspace``, but only its folder, which need not exist; no server is started."""
    from windlass import _config_file
    from windlass._transport import places

    wanted = name or _chosen
    if not wanted:
        config = _config_file.find(None)
        if config is None:
            return open_workspace(None)._dir
        wanted = config.name
    return places.workspace_dir(wanted)


def client_of(name: "Optional[str]") -> "Client":
    """The client of a workspace; its first call starts the server where none runs."""
    return open_workspace(name)._client


def find_run(client: "Client", text: str) -> "Dict[str, Any]":
    """The record (with history) of the run that ``text`` means: its id, the beginning or last part of it, or ``last``.

    Raises:
        UserErrorException: no run is meant, or several.
    """
    from windlass._transport.client import quote
    from windlass.errors import UserErrorException

    if not text or "/" in text:
        raise UserErrorException("%r is no run id. `windlass ps` shows the ids." % text)
    if text == LAST:
        return dict(client.get("/v1/runs/%s" % quote(_newest(client))))
    try:
        return dict(client.get("/v1/runs/%s" % quote(text)))
    except UserErrorException as absent:
        matches = _matching(client, text)
        if not matches:
            raise absent
    if len(matches) > 1:
        raise UserErrorException(
            "%r could be several runs: %s%s. Give more of the id."
            % (text, ", ".join(matches[:_SHOWN]), ", …" if len(matches) > _SHOWN else "")
        )
    return dict(client.get("/v1/runs/%s" % quote(matches[0])))


def runs_of(client: "Client", limit: "Optional[int]" = None, **filters: Any) -> "Iterator[Dict[str, Any]]":
    """Yield records of runs, newest first, page by page, ``limit`` at most."""
    before: "Optional[str]" = None
    left = limit
    while left is None or left > 0:
        page = _PAGE if left is None else min(left, _PAGE)
        answer = client.get("/v1/runs", limit=page, before=before, **filters)
        for record in answer["runs"]:
            before = record["id"]
            yield record
        if not answer["more"] or not answer["runs"]:
            return
        left = None if left is None else left - len(answer["runs"])


def _newest(client: "Client") -> str:
    from windlass.errors import UserErrorException

    for record in runs_of(client, limit=1):
        return str(record["id"])
    raise UserErrorException("There is no run yet. Start one with `windlass submit SCRIPT`.")


def _matching(client: "Client", text: str) -> "List[str]":
    return [str(run_id) for run_id in client.get("/v1/run-ids", like=text)["ids"]]
