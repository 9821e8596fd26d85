"""``windlass experiment``: the names under which runs are kept."""

from __future__ import annotations

from windlass.cli._options import AsJson, WorkspaceName, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, table

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
