"""``windlass experiment``: the names under which runs are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from windlass.cli._options import AsJson, WorkspaceName, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, result, say, table
from windlass.cli.run import freed

app = noun("Experiments: names under which runs are kept.")


@app.callback()
def experiment() -> None:
    """Experiments: names under which runs are kept."""


@app.command("list")
def list_experiments(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """List the experiments."""
    answer = client_of(workspace).get("/v1/experiments")
    if json:
        as_json(answer)
        return
    rows = [(entry["name"], str(entry["runs"]), ago(entry["last"])) for entry in answer["experiments"]]
    columns = (Column("EXPERIMENT", wraps=True), Column("RUNS", right=True), Column("LAST RUN"))
    table(columns, rows, empty="No experiment yet; the first run of one makes it: `windlass submit SCRIPT`.")


@app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `windlass experiment` lists it.", show_default=False)],
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """Delete an experiment with all its runs, which must have ended.

    Models that were registered from them keep their files.
    """
    from windlass._transport.client import quote

    answer = client_of(workspace).delete("/v1/experiments/%s" % quote(name))
    if json:
        as_json(answer)
        return
    result("%s: deleted, with %d runs" % (name, len(answer["runs"])))
    say(freed(answer["freed_bytes"]))
