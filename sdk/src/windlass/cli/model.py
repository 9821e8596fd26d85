"""``windlass model``: what was registered, and where it came from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Dict, Optional

import typer

from windlass.cli._options import AsJson, WorkspaceName, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, pairs, result, size, table

if TYPE_CHECKING:
    from windlass._transport.client import Client

app = noun("Models: what was registered, and where it came from.")

Name = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", help="A model (default: its latest version).", show_default=False)
]


@app.command("list")
def list_models(
    name: Annotated[Optional[str], typer.Option("--name", metavar="NAME", help="Only versions of this model.")] = None,
    run: Annotated[Optional[str], typer.Option("--run", metavar="RUN", help="Only models of this run.")] = None,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """List models, the newest version of each first."""
    from windlass.cli._session import find_run

    client = client_of(workspace)
    answer = client.get("/v1/models", name=name, run_id=find_run(client, run)["id"] if run else None)
    if json:
        as_json(answer)
        return
    rows = [
        (entry["name"], str(entry["version"]), size(entry["size"]), ago(entry["created"]), entry["run_id"] or "")
        for entry in answer["models"]
    ]
    columns = (
        Column("MODEL"), Column("VERSION", right=True), Column("SIZE", right=True), Column("CREATED"),
        Column("RUN", wraps=True),
    )  # fmt: skip
    table(columns, rows, empty="No model here. Register one with run.register_model(name, path).")


@app.command("show")
def show(model: Name, json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Show a model's files and where they came from."""
    entry = _get(client_of(workspace), model)
    if json:
        as_json(entry)
        return
    framework = " ".join(filter(None, [entry["framework"], entry["framework_version"]]))
    pairs([
        ("Model", "%s:%d" % (entry["name"], entry["version"])), ("Description", entry["description"] or ""),
        ("Run", entry["run_id"] or ""), ("Path", entry["path"]), ("Framework", framework),
        ("Tags", ", ".join("%s=%s" % item for item in entry["tags"].items())),
        ("Properties", ", ".join("%s=%s" % item for item in entry["properties"].items())),
        ("Created", ago(entry["created"])), ("Size", size(entry["size"])), ("SHA-256", entry["sha256"]),
        ("Snapshot", entry["snapshot_id"] or ""), ("Environment", entry["environment_key"] or ""),
        ("Files", "\n".join("%s (%s)" % (file["path"], size(file["size"])) for file in entry["files"])),
    ])  # fmt: skip


@app.command("download")
def download(
    model: Name,
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="Folder to write to (default: the current one).", show_default=False)
    ] = ".",
    workspace: WorkspaceName = None,
) -> None:
    """Write a model's files to this machine.

    Prints where they lie.
    """
    from windlass._files import fetch, inside
    from windlass._transport.client import quote

    client = client_of(workspace)
    entry = _get(client, model)
    address = "/v1/models/%s/versions/%d/files/" % (quote(entry["name"]), entry["version"])
    for file in entry["files"]:
        target = inside(destination, file["path"])
        fetch(client, address, file["path"], target)
        result(os.path.relpath(target))


def _get(client: "Client", text: str) -> "Dict[str, Any]":
    from windlass._transport.client import quote

    name, _, version = text.partition(":")
    return dict(client.get("/v1/models/%s/versions/%s" % (quote(name), quote(version or "latest"))))
