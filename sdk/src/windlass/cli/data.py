"""``windlass data``: datastores, their files, and datasets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from windlass.cli._options import AsJson, WorkspaceName, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, result, size, table

if TYPE_CHECKING:
    from windlass.datastore import Datastore

app = noun("Data: datastores, their files, and datasets.")

Store = Annotated[
    Optional[str],
    typer.Option("--datastore", "-d", metavar="NAME", help="A datastore (default: the workspace's default)."),
]


@app.command("list")
def list_data(
    path: Annotated[
        Optional[str], typer.Argument(metavar="[PATH]", help="Beginning of the files' paths.", show_default=False)
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="List the files of a datastore.")] = False,
    datastore: Store = None,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """List datastores and datasets, or, with a path or --files, the files of a datastore."""
    if path is not None or files or datastore is not None:
        _list_files(_store(workspace, datastore), path or "", json)
        return
    client = client_of(workspace)
    answer = {**client.get("/v1/datastores"), **client.get("/v1/datasets")}
    if json:
        as_json(answer)
        return
    stores = [(s["name"] + (" (default)" if s["default"] else ""), s["path"]) for s in answer["datastores"]]
    table((Column("DATASTORE"), Column("FOLDER", wraps=True)), stores)
    rows = [
        (d["name"], str(d["version"]), d["type"], ", ".join(map(_shown, d["definition"]["places"])), ago(d["created"]))
        for d in answer["datasets"]
    ]
    if rows:
        columns = (
            Column("DATASET"), Column("VERSION", right=True), Column("TYPE"), Column("FILES", wraps=True),
            Column("CREATED"),
        )  # fmt: skip
        table(columns, rows)


@app.command("upload")
def upload(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder or a file.", show_default=False)],
    target: Annotated[
        str, typer.Argument(metavar="[TARGET]", help="A folder of the datastore (default: its root).")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    datastore: Store = None,
    workspace: WorkspaceName = None,
) -> None:
    """Copy a folder or a file to a datastore; files that are there already are skipped."""
    store = _store(workspace, datastore)
    if os.path.isfile(source):
        reference = store.upload_files([source], target_path=target, overwrite=overwrite)
    else:
        reference = store.upload(source, target, overwrite=overwrite)
    result("%s/%s" % (store.name, reference.path_on_datastore or ""))


@app.command("download")
def download(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Beginning of the files' paths.", show_default=False)],
    destination: Annotated[
        str, typer.Argument(metavar="[DEST]", help="Folder to write to (default: the current one).")
    ] = ".",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    datastore: Store = None,
    workspace: WorkspaceName = None,
) -> None:
    """Copy files of a datastore to this machine, under their paths; those that are there already are skipped."""
    _store(workspace, datastore).download(destination, path, overwrite=overwrite)


def _list_files(store: "Datastore", prefix: str, json: bool) -> None:
    files = store._files(prefix)
    if json:
        as_json({"datastore": store.name, "files": files})
        return
    rows = [(file["path"], size(file["size"]), ago(file["modified"])) for file in files]
    columns = (Column("FILE", wraps=True), Column("SIZE", right=True), Column("MODIFIED"))
    table(columns, rows, empty="The datastore %s has no such file." % store.name)


def _store(workspace: "Optional[str]", name: "Optional[str]") -> "Datastore":
    from windlass.datastore import Datastore
    from windlass.workspace import Workspace

    return Datastore(Workspace._at(client_of(workspace).workspace_dir), name)


def _shown(place: Any) -> str:
    return "%s: %s" % (place["datastore"], place["path"] or "/") if place["datastore"] else str(place["path"])
