"""``windlass compute``: where runs run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Dict, List, Optional

import typer

from windlass.cli._options import AsJson, WorkspaceName, key_values, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, pairs, result, say, size, table, took
from windlass.cli.attach import attach

if TYPE_CHECKING:
    from windlass._transport.client import Client

app = noun("Compute targets: where runs run.")
app.command("attach")(attach)
_LOCAL = "local"
_FIRST, _LISTED = 5, 100
_STATES = ("idle", "busy", "preparing", "leaving", "unusable")

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
    """Show a compute target with its nodes, and who is first in line."""
    client = client_of(workspace)
    entry = _get(client, name)
    nodes = client.get(_of(name, "nodes"))["nodes"]
    line = client.get(_of(name, "queue"), limit=_FIRST)
    if json:
        as_json(dict(entry, nodes=nodes, queue=line))
        return
    spec, capacity = entry["spec"], entry["capacity"]
    pairs([
        ("Name", spec["name"]), ("Engine", _engine(spec)), ("Size", spec["vm_size"] or ""),
        ("A node gets", _amounts(spec["node_resources"])),
        ("Priority", spec["vm_priority"]), ("Nodes", "%s, now %d" % (_nodes(entry), capacity["current"])),
        ("Of these", _counts(capacity)), ("Trouble", entry.get("trouble") or ""),
        ("Runs waiting", str(entry["waiting"])),
        ("Scales down", "after %s without a run" % took(spec["idle_seconds_before_scaledown"])),
        ("Description", spec["description"] or ""),
        ("Tags", ", ".join("%s=%s" % item for item in spec["tags"].items())),
        ("Created", ago(entry["created"] or None)),
    ])  # fmt: skip
    if nodes:
        say("")
        _print_nodes(nodes)
    if line["waiting"]:
        say("")
        _print_line(name, line)


@app.command("queue")
def queue(
    name: Name,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, metavar="N", help="So many from the first on.")
    ] = 50,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """List who waits for a compute target, the first in line first, and why each waits."""
    line = client_of(workspace).get(_of(name, "queue"), limit=limit)
    if json:
        as_json(line)
        return
    _print_line(name, line)


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
    wire = to_wire(spec)
    wire.pop("engine")  # that of the setting default_engine
    made = client.put("/v1/computes/%s" % quote(name), wire)
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


def _of(name: str, what: str) -> str:
    from windlass._transport.client import quote

    return "/v1/computes/%s/%s" % (quote(name), what)


def _engine(spec: "Dict[str, Any]") -> str:
    """With where its machines are, for one that has them elsewhere."""
    address = spec["options"].get("address")
    return "%s at %s" % (spec["engine"], address) if address else str(spec["engine"])


def _amounts(resources: "Dict[str, float]") -> str:
    return ", ".join(
        "%s %s" % (name, size(int(amount)) if name == "memory" else "%g" % amount) for name, amount in resources.items()
    )


def _counts(capacity: "Dict[str, Any]") -> str:
    """The states that any node is in."""
    counts = ((state, int(capacity.get(state) or 0)) for state in _STATES)
    return ", ".join("%d %s" % (count, state) for state, count in counts if count or state in ("idle", "busy"))


def _print_nodes(nodes: "List[Dict[str, Any]]") -> None:
    rows = [
        (node["name"], node["status"], node["address"] or "", ", ".join(map(str, node["gpus"])), node["run_id"] or "",
         node["message"])
        for node in nodes[:_LISTED]
    ]  # fmt: skip
    titles = ("NODE", "STATE", "ADDRESS", "GPUS", "RUN", "")
    shown = [place for place in range(len(titles)) if place < 2 or any(row[place] for row in rows)]
    columns = [Column(titles[place], wraps=titles[place] == "") for place in shown]
    table(columns, [[row[place] for place in shown] for row in rows])
    if len(nodes) > _LISTED:
        say("%d more nodes." % (len(nodes) - _LISTED))


def _print_line(name: str, line: "Dict[str, Any]") -> None:
    rows = [
        (str(entry["place"]), entry["run_id"], str(entry["nodes"]), str(entry["priority"] or ""), entry["reason"])
        for entry in line["waiting"]
    ]
    columns = (
        Column("PLACE", right=True), Column("RUN"), Column("NODES", right=True), Column("PRIORITY", right=True),
        Column("WHY IT WAITS", wraps=True),
    )  # fmt: skip
    table(columns, rows, empty="Nobody waits for %s." % name)
    if line["length"] > len(rows):
        say("%d more wait." % (line["length"] - len(rows)))


def _nodes(entry: "Dict[str, Any]") -> str:
    least, most = entry["spec"]["min_nodes"], entry["spec"]["max_nodes"]
    return str(most) if least == most else "%d to %d" % (least, most)
