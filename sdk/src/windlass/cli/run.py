"""``windlass run``, and the everyday ``ps`` and ``stop``: what runs are there and what they left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Dict, Iterable, List, Optional, Sequence

import typer

from windlass.cli import _run_page
from windlass.cli._follow import duration, headline
from windlass.cli._options import AsJson, RunName, WorkspaceName, noun
from windlass.cli._session import client_of, find_run, open_workspace, runs_of
from windlass.cli._show import Column, ago, as_json, plain, result, say, size, table, took

if TYPE_CHECKING:
    from windlass._transport.client import Client

app = noun("Runs: what there is, and what they left.")
_RECENT, _LISTED = 10, 50
_COLUMNS = (
    Column("RUN"), Column("NAME", wraps=True), Column("CREATED"), Column("TOOK"), Column("STATUS", wraps=True),
)  # fmt: skip

Experiment = Annotated[
    Optional[str], typer.Option("--experiment", "-e", metavar="NAME", help="Only this experiment's.")
]
Statuses = Annotated[
    Optional[List[str]],
    typer.Option("--status", "-s", metavar="STATUS", help="Only runs in this status; may be repeated."),
]
Tags = Annotated[
    Optional[List[str]],
    typer.Option("--tag", "-t", metavar="KEY[=VALUE]", help="Only runs with this tag; may be repeated."),
]
Metrics = Annotated[
    Optional[List[str]],
    typer.Option(
        "--metric", "-m", metavar="FILTER",
        help="Only runs whose metric came to this: 'loss<0.1' (its last value), 'min(loss)<0.1' or "
        "'max(accuracy)>=0.9'; may be repeated.",
    ),
]  # fmt: skip
Limit = Annotated[
    Optional[int], typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", "-a", help="All runs there are.")]


def ps(
    all_runs: All = False, experiment: Experiment = None, status: Statuses = None, tag: Tags = None,
    metric: Metrics = None, limit: Limit = None, json: AsJson = False, workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """List what runs, why it waits, and recent runs.

    Every run that has not ended is listed, and the 10 newest runs (or as many as --limit says).
    """
    client = client_of(workspace)
    filters: "Dict[str, Any]" = {"experiment": experiment, "tag": tag or None, "metric": metric or None}
    if all_runs or status:
        asked = None if all_runs else limit or _LISTED
        found = list(runs_of(client, asked, status=checked_statuses(status), **filters))
    else:
        newest = list(runs_of(client, limit or _RECENT, **filters))
        seen = {record["id"] for record in newest}
        active = [record for record in runs_of(client, status=_unfinished(), **filters) if record["id"] not in seen]
        found = newest + active
    _print(found, json)


@app.command("list")
def list_runs(
    all_runs: All = False, experiment: Experiment = None, status: Statuses = None, tag: Tags = None,
    metric: Metrics = None, limit: Limit = None, json: AsJson = False, workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """List runs, newest first.

    50 are listed unless --limit or --all says otherwise.
    """
    asked = None if all_runs else limit or _LISTED
    client = client_of(workspace)
    filters: "Dict[str, Any]" = {"experiment": experiment, "tag": tag or None, "metric": metric or None}
    _print(list(runs_of(client, asked, status=checked_statuses(status), **filters)), json)


def stop(
    runs: Annotated[
        List[str], typer.Argument(metavar="RUN", help="Ids, their beginnings, or 'last'.", show_default=False)
    ],
    workspace: WorkspaceName = None,
) -> None:
    """Ask runs to end.

    What they have logged and kept stays.
    """
    from windlass.errors import UserErrorException

    client = client_of(workspace)
    refused = 0
    for text in runs:
        try:
            _stop(client, find_run(client, text))
        except UserErrorException as problem:
            refused += 1
            say("windlass: %s" % problem.message)
    if refused:
        raise typer.Exit(1)


@app.command("show")
def show(
    run: RunName,
    web: Annotated[bool, typer.Option("--web", help="Open its page in the browser instead.")] = False,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """Show what is known of a run."""
    from windlass.cli.open import open_path

    client = client_of(workspace)
    record = find_run(client, run)
    if web:
        open_path(client, "/runs/%s" % record["id"])
    elif json:
        as_json(record)
    else:
        _run_page.show(client, record)


@app.command("update")
def update(
    run: RunName,
    priority: Annotated[
        Optional[int],
        typer.Option("--priority", metavar="N", help="Its priority in line, until it has nodes; higher is first."),
    ] = None,
    name: Annotated[Optional[str], typer.Option("--name", metavar="TEXT", help="A name for people.")] = None,
    workspace: WorkspaceName = None,
) -> None:
    """Change what can be changed of a run.

    What is not given stays.
    """
    from windlass._transport.client import quote

    given = {"priority": priority, "display_name": name}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("Give --priority or --name.")
    client = client_of(workspace)
    address = "/v1/runs/%s" % quote(str(find_run(client, run)["id"]))
    client.patch(address, changes)
    record = client.get(address)  # with its new place in line
    result("%s: %s" % (record["id"], headline(record)))


@app.command("metrics")
def metrics(
    run: RunName,
    name: Annotated[
        Optional[str], typer.Option("--name", metavar="NAME", help="All points of this metric only.")
    ] = None,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """Show what a run has logged.

    For each metric: the number of points, the last, the least and the greatest value.
    """
    client = client_of(workspace)
    run_id = find_run(client, run)["id"]
    answer = client.get(_of(run_id, "metrics"), name=name)
    if name and name not in answer["metrics"]:
        _refuse_metric(client, run_id, name)
    if json:
        as_json(answer)
    elif name:
        _run_page.points(answer["metrics"][name])
    else:
        _run_page.series(answer["metrics"])


@app.command("files")
def files(run: RunName, json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """List the files that a run keeps: its outputs and logs."""
    client = client_of(workspace)
    answer = client.get(_of(find_run(client, run)["id"], "files"))
    if json:
        as_json(answer)
        return
    rows = [(size(entry["size"]), entry["path"]) for entry in answer["files"]]
    table((Column("SIZE", right=True), Column("FILE", wraps=True)), rows, empty="It keeps no file yet.")


@app.command("download")
def download(
    run: RunName,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A kept file or folder, as `windlass run files` lists it.")
    ],
    destination: Annotated[
        Optional[str],
        typer.Argument(metavar="DEST", help="Where to; a file's default is the current folder.", show_default=False),
    ] = None,
    workspace: WorkspaceName = None,
) -> None:
    """Write a kept file or folder to this machine.

    Prints where it lies.
    """
    from windlass._files import fetch, inside, no_such_file, target_of
    from windlass.errors import UserErrorException

    opened = open_workspace(workspace)
    client = opened._client
    run_id = find_run(client, run)["id"]
    names = [str(entry["path"]) for entry in client.get(_of(run_id, "files"))["files"]]
    folder = name.rstrip("/") + "/"
    below = [kept for kept in names if kept.startswith(folder)]
    if name in names:
        targets = {name: target_of(name, destination)}
    elif below:
        targets = {kept: inside(destination or ".", kept) for kept in below}
    else:
        raise UserErrorException(no_such_file(run_id, name, names))
    for kept, target in targets.items():
        fetch(client, _of(run_id, "files/"), kept, target)
        result(os.path.relpath(target))


@app.command("delete")
def delete(
    runs: Annotated[
        List[str], typer.Argument(metavar="RUN", help="Ids, their beginnings, or 'last'.", show_default=False)
    ],
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """Delete runs that have ended, with their children, logs, metrics and files.

    Models that were registered from them keep their files.
    """
    client = client_of(workspace)
    ids = [str(find_run(client, text)["id"]) for text in runs]
    answer = client.post("/v1/run-deletions", {"runs": ids})
    if json:
        as_json(answer)
        return
    for run_id in answer["runs"]:
        result("%s: deleted" % run_id)
    say(freed(answer["freed_bytes"]))


@app.command("replay")
def replay(
    offline_run: Annotated[
        Optional[str],
        typer.Argument(metavar="OFFLINE_RUN", help="Its id (OfflineRun_…); without one, those kept are listed.",
                       show_default=False),
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", metavar="NAME", help="Experiment that it becomes a run of.")
    ] = "offline",
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Bring a run that was logged outside of any workspace into this one.

    A script that asks for its run context without being submitted logs to an offline run, which is kept on this
    machine. Prints the id of the new run.
    """
    from windlass._offline_folder import offline_runs
    from windlass._replay import replay_offline_run

    if offline_run is None:
        _print_offline([state for state in offline_runs() if not state["parent"]], json)
        return
    made = replay_offline_run(open_workspace(workspace), experiment, offline_run)
    if json:
        as_json({"run": made.id})
    else:
        result(made.id)


def _print_offline(states: "Sequence[Dict[str, Any]]", json: bool) -> None:
    if json:
        as_json({"offline_runs": states})
        return
    titles = ("OFFLINE RUN", "NAME", "CREATED", "STATUS", "REPLAYED AS")
    columns = [Column(title, wraps=title == "NAME") for title in titles]
    rows = [
        (state["id"], state["display_name"] or "", ago(state["created"]), state["status"], state.get("replayed") or "")
        for state in states
    ]
    table(columns, rows, empty="No offline run is kept on this machine.")


def freed(count: "Optional[int]") -> str:
    """How many bytes came back, as a sentence; None while it goes on in the background."""
    return "%s freed." % size(count) if count is not None else "The space is freed in the background."


def _of(run_id: str, what: str) -> str:
    from windlass._transport.client import quote

    return "/v1/runs/%s/%s" % (quote(run_id), what)


def _print(records: "Sequence[Dict[str, Any]]", json: bool) -> None:
    if json:
        as_json({"runs": records})
        return
    named = any(record["display_name"] for record in records)
    columns = [column for column in _COLUMNS if named or column.title != "NAME"]
    rows = [
        [record["id"], *([record["display_name"] or ""] if named else []), ago(record["created"]),
         took(duration(record)), headline(record)]
        for record in records
    ]  # fmt: skip
    table(columns, rows, empty="No run here. Start one with `windlass submit SCRIPT`.")


def _stop(client: "Client", record: "Dict[str, Any]") -> None:
    if record["ended"] is not None:
        result("%s: already %s" % (record["id"], record["status"]))
        return
    result("%s: %s" % (record["id"], client.post(_of(record["id"], "cancel"))["status"]))


def _unfinished() -> "List[str]":
    from windlass.specs.status import RunStatus

    return [status.value for status in RunStatus if not status.final]


def checked_statuses(given: "Optional[Iterable[str]]") -> "Optional[List[str]]":
    """Statuses in v1's spelling, whatever case they were typed in.

    Raises:
        typer.BadParameter: one is no status.
    """
    from windlass.errors import did_you_mean
    from windlass.specs.status import RunStatus

    known = {status.value.lower(): status.value for status in RunStatus}
    for text in given or ():
        if text.lower() not in known:
            near = did_you_mean(text, known.values())
            raise typer.BadParameter("%r is no status.%s There are: %s." % (text, near, ", ".join(known.values())))
    return [known[text.lower()] for text in given] if given else None


def _refuse_metric(client: "Client", run_id: str, name: str) -> None:
    from windlass.errors import UserErrorException, did_you_mean

    known = list(client.get(_of(run_id, "metrics"), points=2)["metrics"])
    has = " It has: %s." % ", ".join(known[:20]) if known else " It has logged nothing yet."
    near = did_you_mean(name, known) or has
    raise UserErrorException("%s has no metric %r.%s" % (run_id, plain(name), near))
