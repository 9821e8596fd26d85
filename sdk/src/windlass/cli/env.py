"""``windlass env``: the environments that are built and kept for jobs."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Dict, Iterator, List, Mapping, Optional, Sequence

import typer

from windlass.cli._environment_options import (
    Channel,
    Conda,
    CondaFile,
    Dockerfile,
    Image,
    Pip,
    Python,
    Requirements,
    environment,
)
from windlass.cli._options import AsJson, WorkspaceName, age_seconds, noun
from windlass.cli._session import client_of, open_workspace
from windlass.cli._show import Column, ago, as_json, pairs, plain, result, say, size, table

if TYPE_CHECKING:
    from windlass._environment_registry import ImageBuildDetails
    from windlass._transport.client import Client
    from windlass.environment import Environment
    from windlass.workspace import Workspace

app = noun("Environments that are built and kept for jobs.")
_SHORT = 12
_INTERRUPTED = 130
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?\Z")
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}  # as the setting environments_max_gb counts

Key = Annotated[
    str, typer.Argument(metavar="KEY", help="As `windlass env` lists them; the beginning will do.", show_default=False)
]
Keys = Annotated[
    List[str], typer.Argument(metavar="KEY", help="As `windlass env` lists them; the beginning will do.",
                              show_default=False)
]  # fmt: skip
What = Annotated[
    Optional[str],
    typer.Argument(
        metavar="WHAT", show_default=False,
        help="A registered environment as NAME[:VERSION], a conda file (.yml), or a requirements file (.txt).",
    ),
]  # fmt: skip


@app.command("list")
def list_environments(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """List the environments that are built, last used first."""
    answer = client_of(workspace).get("/v1/environments")
    if json:
        as_json(answer)
        return
    if answer["environments"] or not answer.get("for_nodes"):
        _table(answer["environments"], "No environment is built yet; the first run that needs one builds it.")
    if answer.get("for_nodes"):
        _table_for_nodes(answer["for_nodes"])
    if answer["environments"]:
        limit = "%g GB" % (answer["max_bytes"] / 1e9)
        say("%s of at most %s together; what several share counts once." % (size(answer["total_bytes"]), limit))


@app.command("show")
def show(key: Key, json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Show what is in an environment, why, where it is, and who uses it."""
    client = client_of(workspace)
    entry = _get(client, _whole(client, key))
    if json:
        as_json(entry)
        return
    if "path" not in entry:
        _show_for_nodes(entry)
        return
    base = " from %s" % entry["base_python"] if entry["base_python"] else ""
    shared = ", %s of it shared with uv's cache or other environments" % size(entry["shared_bytes"])
    pairs([
        ("Key", entry["key"]), ("Not usable", _fault(entry)), ("Builder", entry["builder"]),
        ("Python", entry["python_version"] + base),
        ("Platform", entry["platform"] or ""), ("Image", entry.get("image") or ""), ("Path", entry["path"]),
        ("Size", size(entry["bytes"]) + (shared if entry["shared_bytes"] else "")),
        ("Created", ago(entry["created"])), ("Last used", ago(entry["used"])), *_told_of_all(entry),
    ])  # fmt: skip


@app.command("build")
def build(
    what: What = None, pip: Pip = None, conda: Conda = None, requirements: Requirements = None,
    conda_file: CondaFile = None, channel: Channel = None, python: Python = None, image: Image = None,
    dockerfile: Dockerfile = None, json: AsJson = False, workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Build an environment now, so that its first run need not wait.

    Prints its key; the build log goes to stderr. Ctrl-C stops the waiting, not the build.
    """
    from windlass import _environment_registry

    opened = open_workspace(workspace)
    options = _options(
        pip=pip, conda=conda, requirements=requirements, conda_file=conda_file, channels=channel, python=python,
        image=image, dockerfile=dockerfile,
    )  # fmt: skip
    wanted = _wanted(opened, what, options)
    made = _waited(_environment_registry.build(wanted, opened))
    as_json({"key": made["key"]}) if json else result(str(made["key"]))


@app.command("refresh")
def refresh(
    what: Annotated[
        Optional[str],
        typer.Argument(
            metavar="WHAT", show_default=False,
            help="A KEY as `windlass env` lists them, or what `windlass env build` takes.",
        ),
    ] = None,
    pip: Pip = None, conda: Conda = None, requirements: Requirements = None, conda_file: CondaFile = None,
    channel: Channel = None, python: Python = None, image: Image = None, dockerfile: Dockerfile = None,
    json: AsJson = False, workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Look the versions of a package list up anew, and build what comes of it.

    Runs that are submitted from now on get the new versions; prints what changed.
    """
    opened = open_workspace(workspace)
    options = _options(
        pip=pip, conda=conda, requirements=requirements, conda_file=conda_file, channels=channel, python=python,
        image=image, dockerfile=dockerfile,
    )  # fmt: skip
    found = []
    for begun in _begun(opened, what, options):
        made = _waited(begun)
        found.append({"key": made["key"], "changes": made["changes"]})
        if not json:
            _print_changes(made)
    if json:
        as_json({"environments": found})


@app.command("delete")
def delete(keys: Keys, json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Delete environments that no run uses.

    A run that needs one again builds it again.
    """
    from windlass._transport.client import quote

    client = client_of(workspace)
    found = [_whole(client, text) for text in keys]
    for key in found:
        client.delete("/v1/environments/%s" % quote(key))
        if not json:
            result("%s: deleted" % key[:_SHORT])
    if json:
        as_json({"deleted": found})


@app.command("remove", hidden=True)
def remove(keys: Keys, json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Delete environments; the former name of `delete`."""
    delete(keys, json, workspace)


@app.command("prune")
def prune(
    older_than: Annotated[
        Optional[str],
        typer.Option("--older-than", metavar="AGE", help="Not used for so long, such as 30d, 12h or 8w.",
                     show_default=False),
    ] = None,
    max_size: Annotated[
        Optional[str],
        typer.Option("--max-size", metavar="SIZE", help="The least recently used, until this holds, such as 10G.",
                     show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that no run uses.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and delete nothing.")] = False,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Delete environments by age or size.

    What runs of any workspace of this home use, or wait for, stays.
    """
    if older_than is None and max_size is None and not everything:
        raise typer.BadParameter("say what to delete: --older-than, --max-size or --all.")
    answer = client_of(workspace).post("/v1/environments/prune", {
        "older_than_s": None if older_than is None else age_seconds("--older-than", older_than),
        "max_bytes": None if max_size is None else _bytes("--max-size", max_size),
        "all": everything, "dry_run": dry_run,
    })  # fmt: skip
    if json:
        as_json(answer)
        return
    _table(answer["removed"], "Nothing to delete.")
    count = len(answer["removed"])
    if not count and not answer["in_use"]:
        return
    say("%d %s %s, %s; %s left%s." % (
        count, "environment" if count == 1 else "environments", "would go" if dry_run else "deleted",
        size(answer["freed_bytes"]), size(answer["left_bytes"]),
        ", of which runs use %d" % len(answer["in_use"]) if answer["in_use"] else "",
    ))  # fmt: skip


def _table(environments: "Sequence[Mapping[str, Any]]", empty: str) -> None:
    rows = [
        (entry["key"][:_SHORT], entry["builder"], _python(entry), str(entry["packages"]), size(entry["bytes"]),
         ago(entry["used"]), _runs(len(entry["in_use"])))
        for entry in environments
    ]  # fmt: skip
    columns = (
        Column("KEY"), Column("BUILDER"), Column("PYTHON", wraps=True), Column("PACKAGES", right=True),
        Column("SIZE", right=True), Column("USED"), Column("IN USE"),
    )  # fmt: skip
    table(columns, rows, empty=empty)


def _table_for_nodes(locks: "Sequence[Mapping[str, Any]]") -> None:
    """What is built on nodes elsewhere, by each of them for itself."""
    rows = [
        (entry["key"][:_SHORT], entry["builder"], entry["python_version"], str(entry["packages"]), entry["platform"],
         ago(entry["made"]), _runs(len(entry["in_use"])))
        for entry in locks
    ]  # fmt: skip
    columns = (
        Column("FOR NODES"), Column("BUILDER"), Column("PYTHON"), Column("PACKAGES", right=True),
        Column("PLATFORM", wraps=True), Column("RESOLVED"), Column("IN USE"),
    )  # fmt: skip
    table(columns, rows)


def _show_for_nodes(entry: "Mapping[str, Any]") -> None:
    pairs([
        ("Key", entry["key"]), ("Builder", entry["builder"]), ("Python", entry["python_version"]),
        ("Platform", "%s: resolved here, built by each node for itself" % entry["platform"]),
        ("Resolved", ago(entry["made"])), *_told_of_all(entry),
    ])  # fmt: skip


def _told_of_all(entry: "Mapping[str, Any]") -> "List[Any]":
    return [
        ("In use by", "\n".join("%s (%s)" % (use["run_id"], use["workspace"]) for use in entry["in_use"])),
        ("Latest runs", "\n".join(entry["runs"][:10])),
        ("Asked for as", "\n".join(_asked(request) for request in entry["requests"])),
        ("Registered as", "\n".join("%s:%s" % (one["name"], one["version"]) for one in entry["registered"])),
        ("Notes", "\n".join(_notes(entry))),
        ("Packages", "\n".join(_versioned(package) for package in entry["contents"])),
    ]


def _options(**given: Any) -> "Optional[Environment]":
    """The environment that the options ask for, as those of ``windlass submit`` do; None when none was given."""
    if not any(given.values()):
        return None
    return environment(**given)


def _wanted(opened: "Workspace", what: "Optional[str]", options: "Optional[Environment]") -> "Environment":
    """The environment that is meant by the argument or by the options."""
    from windlass.environment import Environment

    if (what is None) == (options is None):
        raise typer.BadParameter(
            "say what to build: NAME[:VERSION] of a registered environment, a file, or options such as --pip and "
            "--python; an argument or options, not both."
        )
    if options is not None:
        return options
    if os.path.isfile(str(what)) or os.path.dirname(str(what)):
        kind = os.path.splitext(str(what))[1].lower()
        if kind in (".yml", ".yaml"):
            return Environment.from_conda_specification("cli", str(what))
        if kind in (".txt", ".in"):
            return Environment.from_pip_requirements("cli", str(what))
        raise typer.BadParameter("%s must be a conda file (.yml, .yaml) or a requirements file (.txt)." % what)
    name, _, version = str(what).partition(":")
    return Environment.get(opened, name, version or None)


def _begun(
    opened: "Workspace", what: "Optional[str]", options: "Optional[Environment]"
) -> "Iterator[ImageBuildDetails]":
    """Begin to refresh what is meant: of a key, each package list that led to it."""
    from windlass import _environment_registry

    key = _find(opened._client, what) if what and options is None else None
    if key is None:
        yield _environment_registry.build(_wanted(opened, what, options), opened, refresh=True)
        return
    from windlass.errors import UserErrorException

    entry = _get(opened._client, key)
    if "path" not in entry:
        raise UserErrorException(
            "%s was resolved for nodes elsewhere, by what they are. `windlass env delete %s` has the next run there "
            "look its versions up anew." % (key[:_SHORT], key[:_SHORT])
        )
    specs = [request["spec"] for request in entry["requests"] if request["spec"]]
    if not specs:
        raise UserErrorException(
            "It is not known any more what %s was built for. Name the packages or the registered environment instead."
            % key[:_SHORT]
        )
    for spec in specs:
        yield _environment_registry.ImageBuildDetails._begin(opened, spec, refresh=True)


def _waited(begun: "ImageBuildDetails") -> "Dict[str, Any]":
    """The answer about a build that is ready; its log goes to stderr."""
    try:
        return begun._wait(sys.stderr)
    except KeyboardInterrupt:
        say("Stopped waiting; the build goes on. The same command waits for it again.")
        raise typer.Exit(_INTERRUPTED) from None


def _print_changes(made: "Mapping[str, Any]") -> None:
    changes = made["changes"] or []
    rows = [(change["name"], change["before"] or "-", change["after"] or "-") for change in changes]
    columns = Column("PACKAGE", wraps=True), Column("BEFORE"), Column("NOW")
    table(columns, rows, empty="Nothing changed.")
    result("%s" % made["key"])


def _find(client: "Client", text: str) -> "Optional[str]":
    """The only environment whose key begins with ``text``, if any does.

    Raises:
        UserErrorException: several do.
    """
    from windlass.errors import UserErrorException

    answer = client.get("/v1/environments")
    found = {entry["key"] for entry in [*answer["environments"], *answer.get("for_nodes", ())]}
    matches = [key for key in found if text and key.startswith(text)]
    if len(matches) > 1:
        raise UserErrorException(
            "%r is the beginning of %d environments' keys. Give more of it." % (text, len(matches))
        )
    return matches[0] if matches else None


def _whole(client: "Client", text: str) -> str:
    from windlass.errors import UserErrorException

    key = _find(client, text)
    if key is None:
        raise UserErrorException(
            "%r is the beginning of no environment's key. `windlass env` lists those there are." % text
        )
    return key


def _get(client: "Client", key: str) -> "Dict[str, Any]":
    from windlass._transport.client import quote

    return dict(client.get("/v1/environments/%s" % quote(key)))


def _asked(request: "Mapping[str, Any]") -> str:
    """What led to an environment, in one line."""
    spec = request["spec"] or {}
    parts = ["%s:" % spec["name"]] if spec.get("name") else []
    parts += ["python %s" % spec["python_version"]] if spec.get("python_version") else []
    parts += [" ".join(filter(None, (spec.get("framework"), spec.get("framework_version"))))]
    parts += [str(entry) for name in ("conda_packages", "pip_packages") for entry in spec.get(name) or ()]
    container = spec.get("container") or {}
    parts += ["in %s" % (container.get("image") or "an image of a Dockerfile")] if container else []
    return "%s (looked up %s)" % (" ".join(filter(None, parts)) or "-", ago(request["made"]))


def _notes(entry: "Mapping[str, Any]") -> "List[str]":
    found = list(entry["notes"]) + [note for request in entry["requests"] for note in request["notes"]]
    return list(dict.fromkeys(found))


def _fault(entry: "Mapping[str, Any]") -> str:
    """Why a run does not get it as it is; empty when it does."""
    then = "a run that asks for it gets one that fits, or fails and says why."
    return "%s; %s" % (entry["fault"], then) if entry.get("fault") else ""


def _versioned(package: "Mapping[str, Any]") -> str:
    return "%s %s" % (package["name"], package["version"]) if package["version"] else str(plain(package["name"]))


def _python(entry: "Mapping[str, Any]") -> str:
    return "%s (unusable)" % entry["python_version"] if entry.get("fault") else str(entry["python_version"])


def _runs(count: int) -> str:
    return "" if not count else "1 run" if count == 1 else "%d runs" % count


def _bytes(option: str, text: str) -> int:
    found = _AMOUNT.match(text.strip().lower())
    if found is None:
        raise typer.BadParameter("%s %r must be a number and a unit of K, M, G or T, as in 10G." % (option, text))
    return int(float(found.group(1)) * _UNITS[found.group(2)])
