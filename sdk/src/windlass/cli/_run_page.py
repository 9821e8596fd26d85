"""A run on the terminal: what is known of it, its metrics, its points."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Sequence

from windlass.cli._follow import duration, line_of
from windlass.cli._show import Column, ago, number, pairs, say, size, table, took

if TYPE_CHECKING:
    from windlass._transport.client import Client

_ENOUGH_POINTS = 500
_SHOWN_CHILDREN = 20


def show(client: "Client", record: "Dict[str, Any]") -> None:
    """Write what is known of a run, with its metrics and how many files it keeps."""
    from windlass._transport.client import quote

    address = "/v1/runs/%s/" % quote(record["id"])
    files = client.get(address + "files")["files"]
    web = "%s/runs/%s" % (client.get("/v1/server")["web"], record["id"])
    kept = "%d, %s" % (len(files), size(sum(entry["size"] for entry in files))) if files else "none"
    children = client.get("/v1/runs", parent=record["id"], limit=_SHOWN_CHILDREN + 1)["runs"]
    pairs([*_facts(record), ("Children", _children(children)), ("Files", kept), ("Web view", web)])
    logged = client.get(address + "metrics", points=_ENOUGH_POINTS)["metrics"]
    if logged:
        say("")
        series(logged)


def series(metrics: "Mapping[str, Mapping[str, Any]]") -> None:
    """Write a line for each metric."""
    rows = [
        (name, str(about["count"]), *[number(value) for value in _extent(about)]) for name, about in metrics.items()
    ]
    numbers = [Column(title, right=True) for title in ("POINTS", "LAST", "LEAST", "GREATEST")]
    table((Column("METRIC", wraps=True), *numbers), rows, empty="It has logged nothing yet.")


def points(about: "Mapping[str, Any]") -> None:
    """Write all points of a metric."""
    from windlass._details import iso_time
    from windlass._metrics import values_of

    rows = [
        (iso_time(moment) or "", "" if step is None else str(step), number(value))
        for moment, step, value in zip(about["times"], about["steps"], values_of(about))
    ]
    table((Column("TIME"), Column("STEP", right=True), Column("VALUE", wraps=True)), rows)


def _extent(about: "Mapping[str, Any]") -> "Sequence[Any]":
    """Last, least and greatest value; the last two only of numbers, NaN aside."""
    from windlass._metrics import values_of

    values = values_of(about)
    ordered = [value for value in values if about["type"] in ("float", "int") and value == value]
    return (values[-1], min(ordered), max(ordered)) if ordered else (values[-1], "", "")


def _children(records: "Sequence[Dict[str, Any]]") -> str:
    lines = ["%s  %s" % (record["id"], record["status"]) for record in records[:_SHOWN_CHILDREN]]
    return "\n".join(lines + ["…"] * (len(records) > _SHOWN_CHILDREN))


def _facts(record: "Dict[str, Any]") -> "Iterator[tuple[str, str]]":
    spec = record["spec"]
    yield "Run", record["id"]
    yield "Name", record["display_name"] or ""
    yield "Status", line_of(record)
    yield "Experiment", "%s, run %d" % (record["experiment"], record["number"])
    yield "Parent", record.get("parent_id") or ""
    yield "Script", " ".join([spec["script"], *[_quoted(a) for a in spec["arguments"]]])
    yield "Source", spec["source_directory"] or ""
    yield "Git", _git(spec["git"])
    yield "Target", spec["target"] + (" on %s" % ", ".join(record["nodes"]) if record["nodes"] else "")
    yield "Nodes", "\n".join(_nodes(record))
    yield "Attempt", "%d of %d" % (record["attempt"], spec["max_retries"] + 1) if spec.get("max_retries") else ""
    yield "Priority", str(spec.get("priority") or "")
    yield "Environment", _environment(record)
    yield "Tags", ", ".join("%s=%s" % item if item[1] else item[0] for item in record["tags"].items())
    yield "Properties", ", ".join("%s=%s" % item for item in record["properties"].items())
    yield "Created", "%s (%s)" % (_local(record["created"]), ago(record["created"]))
    yield "Took", took(duration(record))
    yield "History", "\n".join(_history(record))
    yield "Exit", record["exit_signal"] or ("" if record["exit_code"] is None else "code %d" % record["exit_code"])
    yield "Points lost", str(record["lost_points"] or "")


def _nodes(record: "Dict[str, Any]") -> "Iterator[str]":
    """What each of several nodes is at; nothing for one, of which the run's status tells."""
    parts = record.get("parts") or ()
    for part in parts if len(parts) > 1 else ():
        outcome = part.get("outcome") or {}
        came = outcome.get("reason_code", "")
        if outcome.get("exit_code") is not None:
            came = "exit code %d" % outcome["exit_code"]
        yield "%3d  %s  %s%s" % (part["rank"], part["node"], part["status"], ", %s" % came if came else "")


def _history(record: "Dict[str, Any]") -> "Iterator[str]":
    for entry in record["history"]:
        yield "%9s  %s" % ("+" + took(entry["time"] - record["created"]), entry["status"])


def _environment(record: "Dict[str, Any]") -> str:
    asked, got = record["spec"]["environment"], record["environment"]
    packages = [*asked["pip_packages"], *asked["conda_packages"]]
    parts = [asked["interpreter"] if asked["user_managed"] else ", ".join(packages) or "no packages"]
    if asked["python_version"]:
        parts.insert(0, "Python %s" % asked["python_version"])
    container = asked.get("container")
    if container:
        image = "/".join(filter(None, (container["registry"], container["image"]))) if container["image"] else ""
        parts.insert(0, "in %s" % (image or "an image made by a Dockerfile"))
    if got.get("key"):
        parts.append("%s %s" % (got["builder"], got["key"][:12]))
    if got.get("platform"):
        parts.append("for %s, made by each node" % got["platform"])
    elif got.get("key"):
        parts.append("cached" if got.get("cached") else "built in %s" % took(got.get("seconds")))
    return "; ".join(parts)


def _git(git: "Mapping[str, str]") -> str:
    if not git.get("commit"):
        return ""
    return "%s%s%s" % (
        git["commit"][:12], " on %s" % git["branch"] if git.get("branch") else "",
        ", with changes" if git.get("dirty") == "true" else "",
    )  # fmt: skip


def _quoted(argument: str) -> str:
    import shlex

    return shlex.quote(argument)


def _local(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
