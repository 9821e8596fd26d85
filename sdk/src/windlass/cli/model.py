"""``windlass model``: what was registered, and where it came from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Dict, List, Optional

import typer

from windlass.cli._options import AsJson, WorkspaceName, key_values, noun
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
    empty = "No model here. Register one with run.register_model(name, path) or `windlass model register`."
    table(columns, rows, empty=empty)


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
        ("Datasets", "\n".join("%s: %s" % (used["name"], used["id"]) for used in entry["datasets"])),
        ("Created", "%s%s" % (ago(entry["created"]), " by %s" % entry["created_by"] if entry["created_by"] else "")),
        ("Size", size(entry["size"])), ("SHA-256", entry["sha256"]),
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


@app.command("register")
def register(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or a folder.", show_default=False)],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the model; versions count up under it.")],
    description: Annotated[
        Optional[str], typer.Option("--description", metavar="TEXT", help="Text for people.")
    ] = None,
    framework: Annotated[
        Optional[str], typer.Option("--framework", metavar="NAME", help="Such as Onnx, PyTorch or ScikitLearn.")
    ] = None,
    tag: Annotated[
        Optional[List[str]], typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be repeated.")
    ] = None,
    workspace: WorkspaceName = None,
) -> None:
    """Register a file or folder of this machine as a new version.

    Prints the name and version.
    """
    from windlass.cli._session import open_workspace
    from windlass.model import register_from_files

    made = register_from_files(
        open_workspace(workspace), path, name=name, description=description, model_framework=framework,
        tags=key_values("--tag", tag, bare=True),
    )  # fmt: skip
    result(made.id)


@app.command("delete")
def delete(
    model: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="The version to delete.", show_default=False)],
    workspace: WorkspaceName = None,
) -> None:
    """Delete a version of a model.

    Its number is not given again.
    """
    from windlass._transport.client import quote

    name, _, version = model.partition(":")
    if not version.isdigit():
        raise typer.BadParameter("give the version to delete, such as %s:1." % (name or "digits"))
    client_of(workspace).delete("/v1/models/%s/versions/%s" % (quote(name), version))
    result("%s: deleted" % model)


def _get(client: "Client", text: str) -> "Dict[str, Any]":
    from windlass._transport.client import quote

    name, _, version = text.partition(":")
    return dict(client.get("/v1/models/%s/versions/%s" % (quote(name), quote(version or "latest"))))
