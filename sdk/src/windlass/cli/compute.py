"""``windlass compute``: where runs run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Dict, List, Optional

import typer

from windlass.cli._options import AsJson, WorkspaceName, key_values, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, pairs, result, table, took

if TYPE_CHECKING:
    from windlass._transport.client import Client

app = noun("Compute targets: where runs run.")
_LOCAL = "local"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the compute target.", show_default=False)]


@app.command("list")
def list_computes(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """List the compute targets.

    'local', this machine, is always there.
    """
    client = client_of(workspace)
    found = client.get("/v1/computes")["computes"]
    if all(entry["spec"]["name"] != _LOCAL for entry in found):
        found = [_get(client, _LOCAL), *found]
    if json:
        as_json({"computes": found})
        return
    rows = [
        (entry["spec"]["name"], entry["spec"]["vm_size"] or "", _nodes(entry), str(entry["capacity"]["idle"]),
         str(entry["capacity"]["busy"]), str(entry["waiting"]))
        for entry in found
    ]  # fmt: skip
    numbers = [Column(title, right=True) for title in ("NODES", "IDLE", "BUSY", "RUNS WAITING")]
    table((Column("NAME", wraps=True), Column("SIZE"), *numbers), rows)


@app.command("show")
def show(name: Name, json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Show a compute target."""
    entry = _get(client_of(workspace), name)
    if json:
        as_json(entry)
        return
    spec, capacity = entry["spec"], entry["capacity"]
    pairs([
        ("Name", spec["name"]), ("Engine", spec["engine"]), ("Size", spec["vm_size"] or ""),
        ("Priority", spec["vm_priority"]), ("Nodes", "%s, now %d" % (_nodes(entry), capacity["current"])),
        ("Idle, busy", "%d, %d" % (capacity["idle"], capacity["busy"])),
        ("Runs waiting", str(entry["waiting"])),
        ("Scales down", "after %s without a run" % took(spec["idle_seconds_before_scaledown"])),
        ("Description", spec["description"] or ""),
        ("Tags", ", ".join("%s=%s" % item for item in spec["tags"].items())),
        ("Created", ago(entry["created"] or None)),
    ])  # fmt: skip


@app.command("create")
def create(
    name: Name,
    vm_size: Annotated[
        Optional[str], typer.Option("--vm-size", metavar="SIZE", help="Size of a node, such as STANDARD_D2_V2.")
    ] = None,
    min_nodes: Annotated[int, typer.Option("--min-nodes", min=0, metavar="N", help="Nodes kept while idle.")] = 0,
    max_nodes: Annotated[int, typer.Option("--max-nodes", min=1, metavar="N", help="Nodes at most.")] = 1,
    idle_seconds: Annotated[
        int, typer.Option("--idle-seconds", min=0, metavar="S", help="Seconds without a run before it scales down.")
    ] = 1800,
    description: Annotated[
        Optional[str], typer.Option("--description", metavar="TEXT", help="Text for people.")
    ] = None,
    tag: Annotated[
        Optional[List[str]], typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be repeated.")
    ] = None,
    workspace: WorkspaceName = None,
) -> None:
    """Make a compute target."""
    from windlass._transport.client import quote
    from windlass.errors import ComputeTargetException
    from windlass.specs._codec import to_wire
    from windlass.specs.cluster import ClusterSpec

    client = client_of(workspace)
    if name in [entry["spec"]["name"] for entry in client.get("/v1/computes")["computes"]] or name == _LOCAL:
        raise ComputeTargetException(
            "The compute target %r exists. Delete it first (`windlass compute delete %s`), or change it with "
            "`windlass compute update %s`." % (name, name, name)
        )
    spec = ClusterSpec(
        name=name, vm_size=vm_size.upper() if vm_size else None, min_nodes=min_nodes, max_nodes=max_nodes,
        idle_seconds_before_scaledown=idle_seconds, description=description, tags=key_values("--tag", tag, bare=True),
    )  # fmt: skip
    made = client.put("/v1/computes/%s" % quote(name), to_wire(spec))
    result("%s: %s nodes" % (made["spec"]["name"], _nodes(made)))


@app.command("update")
def update(
    name: Name,
    min_nodes: Annotated[
        Optional[int], typer.Option("--min-nodes", min=0, metavar="N", help="Nodes kept while idle.")
    ] = None,
    max_nodes: Annotated[Optional[int], typer.Option("--max-nodes", min=1, metavar="N", help="Nodes at most.")] = None,
    idle_seconds: Annotated[
        Optional[int], typer.Option("--idle-seconds", min=0, metavar="S", help="Seconds before it scales down.")
    ] = None,
    workspace: WorkspaceName = None,
) -> None:
    """Change how far a compute target scales.

    What is not given stays.
    """
    from windlass._transport.client import quote

    client = client_of(workspace)
    spec = _get(client, name)["spec"]
    given = {"min_nodes": min_nodes, "max_nodes": max_nodes, "idle_seconds_before_scaledown": idle_seconds}
    changed = client.put(
        "/v1/computes/%s" % quote(name), dict(spec, **{key: value for key, value in given.items() if value is not None})
    )
    result("%s: %s nodes" % (name, _nodes(changed)))


@app.command("sizes")
def sizes(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """List the sizes that --vm-size may name: your own, then Azure's."""
    answer = client_of(workspace).get("/v1/vm-sizes")
    if json:
        as_json(answer)
        return
    rows = [
        (entry["name"], str(entry["vcpus"]), "%g" % entry["memory_gb"],
         "%d %s" % (entry["gpus"], entry["gpu_name"] or "") if entry["gpus"] else "", "own" if entry["own"] else "")
        for entry in answer["sizes"]
    ]  # fmt: skip
    columns = (
        Column("SIZE", wraps=True), Column("CORES", right=True), Column("MEMORY GB", right=True), Column("GPUS"),
        Column(""),
    )  # fmt: skip
    table(columns, rows)


@app.command("delete")
def delete(name: Name, workspace: WorkspaceName = None) -> None:
    """Delete a compute target that no run holds or waits for."""
    from windlass._transport.client import quote

    client_of(workspace).delete("/v1/computes/%s" % quote(name))
    result("%s: deleted" % name)


def _get(client: "Client", name: str) -> "Dict[str, Any]":
    from windlass._transport.client import quote

    return dict(client.get("/v1/computes/%s" % quote(name)))


def _nodes(entry: "Dict[str, Any]") -> str:
    least, most = entry["spec"]["min_nodes"], entry["spec"]["max_nodes"]
    return str(most) if least == most else "%d to %d" % (least, most)
