"""``windlass env``: the environments that are built and kept for jobs."""

from __future__ import annotations

from typing import Annotated, List

import typer

from windlass.cli._options import AsJson, WorkspaceName, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, result, size, table

app = noun("Environments that are built and kept for jobs.")
_SHORT = 12


@app.command("list")
def list_environments(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """List the environments that are built."""
    answer = client_of(workspace).get("/v1/environments")
    if json:
        as_json(answer)
        return
    rows = [
        (entry["key"][:_SHORT], entry["builder"], entry["python_version"], str(entry["packages"]), size(entry["bytes"]),
         ago(entry["used"]))
        for entry in answer["environments"]
    ]  # fmt: skip
    columns = (
        Column("KEY"), Column("BUILDER"), Column("PYTHON", wraps=True), Column("PACKAGES", right=True),
        Column("SIZE", right=True), Column("USED"),
    )  # fmt: skip
    table(columns, rows, empty="No environment is built yet; the first run that needs one builds it.")


@app.command("remove")
def remove(
    keys: Annotated[List[str], typer.Argument(metavar="KEY", help="As `windlass env` lists them.", show_default=False)],
    workspace: WorkspaceName = None,
) -> None:
    """Remove environments.

    A run that needs one again builds it again.
    """
    from windlass._transport.client import quote
    from windlass.errors import UserErrorException

    client = client_of(workspace)
    for text in keys:
        known = [entry["key"] for entry in client.get("/v1/environments")["environments"]]
        matches = [key for key in known if key.startswith(text)]
        if len(matches) != 1:
            raise UserErrorException(
                "%r is the beginning of %s. `windlass env` lists those there are."
                % (text, "no environment's key" if not matches else "%d environments' keys" % len(matches))
            )
        client.delete("/v1/environments/%s" % quote(matches[0]))
        result("%s: removed" % matches[0][:_SHORT])
