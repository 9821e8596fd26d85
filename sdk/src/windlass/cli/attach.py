"""``windlass compute attach``: machines that somebody else runs."""

from __future__ import annotations

import sys
from typing import Annotated, Dict, List, Optional

import typer

from windlass.cli._options import WorkspaceName, key_values
from windlass.cli._session import open_workspace
from windlass.cli._show import result, say

_KINDS = ("ray",)


def attach(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="What runs the machines: ray.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the compute target.", show_default=False)],
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="Address of the cluster's head; Ray's port is 6379.")
    ],
    resource: Annotated[
        Optional[List[str]],
        typer.Option("--resource", "-r", metavar="NAME=AMOUNT",
                     help="What a node of a run gets, such as CPU=8 or GPU=1; may be repeated (default: CPU=1)."),
    ] = None,
    min_nodes: Annotated[
        int, typer.Option("--min-nodes", min=0, metavar="N", help="Nodes that Ray's autoscaler keeps while idle.")
    ] = 0,
    max_nodes: Annotated[
        Optional[int], typer.Option("--max-nodes", min=1, metavar="N", help="Nodes in use at most (default: all).")
    ] = None,
    idle_seconds: Annotated[
        int, typer.Option("--idle-seconds", min=0, metavar="S", help="Seconds for which nodes are kept after a run.")
    ] = 1800,
    token_file: Annotated[
        Optional[str],
        typer.Option("--token-file", metavar="FILE", help="File with the cluster's token; - reads standard input."),
    ] = None,
    python: Annotated[
        Optional[str],
        typer.Option("--python", metavar="PATH", help="Interpreter here that has the cluster's Ray and Python."),
    ] = None,
    agent_python: Annotated[
        Optional[str], typer.Option("--agent-python", metavar="PATH", help="Interpreter of the nodes with Windlass.")
    ] = None,
    description: Annotated[
        Optional[str], typer.Option("--description", metavar="TEXT", help="Text for people.")
    ] = None,
    workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Make a running cluster a compute target, or change the one of that name.

    The cluster is reached, its versions are compared and each of its nodes is asked what it is before anything is kept.
    """
    from windlass.compute import ComputeTarget
    from windlass.ray_compute import RayCompute

    if kind not in _KINDS:
        raise typer.BadParameter("KIND %r is not offered; it must be: %s." % (kind, ", ".join(_KINDS)))
    config = RayCompute.attach_configuration(
        address, _amounts(resource), min_nodes=min_nodes, max_nodes=max_nodes, python=python, agent_python=agent_python,
        auth_token=_token_from_input() if token_file == "-" else None,
        token_file=None if token_file == "-" else token_file, idle_seconds_before_scaledown=idle_seconds,
        description=description,
    )  # fmt: skip
    say("Asking the cluster at %s what it is …" % address)
    target = ComputeTarget.attach(open_workspace(workspace), name, config)
    status = target.get_status()
    result("%s: %d nodes at %s" % (name, status.current_node_count, address))
    if not status.current_node_count:
        say("No machine has room for a node now. See `windlass compute show %s`, and what --resource asks." % name)


def _token_from_input() -> str:
    token = sys.stdin.readline().strip()
    if not token:
        raise typer.BadParameter("--token-file -: standard input has no token on its first line.")
    return token


def _amounts(given: "Optional[List[str]]") -> "Dict[str, float]":
    found = {}
    for name, text in key_values("--resource", given).items():
        try:
            found[name] = float(text)
        except ValueError:
            raise typer.BadParameter("--resource %s=%s: %r is no number." % (name, text, text)) from None
    return found
