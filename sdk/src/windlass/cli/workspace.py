"""``windlass workspace``: what there is, where its room goes, backups, and runs that have had their time."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any, Dict, List, Optional

import typer

from windlass.cli._options import AsJson, WorkspaceName, age_seconds, noun
from windlass.cli._session import client_of
from windlass.cli._show import Column, ago, as_json, pairs, plain, result, say, size, table, took
from windlass.cli.run import checked_statuses
from windlass.cli.run import freed as freed_words

app = noun("Workspaces: where their room goes, backups, and deleting old runs.")
_PHASES = {
    "records": "copying the records", "contents": "copying contents", "runs": "copying runs",
    "data": "copying data", "disk": "waiting for the disk", "verifying": "verifying", "restoring": "restoring",
}  # fmt: skip
_SHOWN = 20

Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="Where backups lie.", show_default=False)]


@app.command("list")
def list_workspaces(json: AsJson = False) -> None:
    """List the workspaces of this home."""
    from windlass._transport import autostart, places

    found = [(name, places.workspace_dir(name)) for name in places.workspaces()]
    if json:
        as_json({"workspaces": [
            {"name": name, "folder": path, "running": autostart.is_running(path)} for name, path in found
        ]})  # fmt: skip
        return
    rows = [(name, "runs" if autostart.is_running(path) else "", path) for name, path in found]
    columns = (Column("WORKSPACE", wraps=True), Column("SERVER"), Column("FOLDER", wraps=True))
    table(columns, rows, empty="No workspace yet. Make one with `windlass init`.")


@app.command("usage")
def usage(json: AsJson = False, workspace: WorkspaceName = None) -> None:
    """Show where the room of a workspace goes, and its biggest runs."""
    answer = client_of(workspace).get("/v1/workspace/usage")
    if json:
        as_json(answer)
        return
    named = [
        ("Workspace", "total_bytes"), ("  runs", "runs_bytes"), ("  code and models", "contents_bytes"),
        ("  database", "database_bytes"), ("  datastores", "datastores_bytes"), ("  other", "other_bytes"),
        ("Environments", "environments_bytes"), ("Left on the disk", "left_bytes"),
    ]  # fmt: skip
    pairs([(name, size(answer[key])) for name, key in named])
    if answer["biggest"]:
        result("")
        rows = [(size(entry["bytes"]), entry["id"]) for entry in answer["biggest"]]
        table((Column("SIZE", right=True), Column("BIGGEST RUNS", wraps=True)), rows)


@app.command("prune")
def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Ended so long ago, such as 30d, 12h or 8w.",
                          show_default=False)
    ],
    experiment: Annotated[
        Optional[str], typer.Option("--experiment", "-e", metavar="NAME", help="Only this experiment's.")
    ] = None,
    status: Annotated[
        Optional[List[str]],
        typer.Option("--status", "-s", metavar="STATUS", help="Only runs that ended so; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and delete nothing.")] = False,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Delete runs that ended long ago, with their children, files and metrics.

    Runs that have not ended, made a registered model or have the tag `keep` stay (see the settings).
    """
    client = client_of(workspace)
    wanted: "Dict[str, Any]" = {"before": time.time() - age_seconds("--older-than", older_than)}
    wanted.update(experiment=experiment, statuses=checked_statuses(status) or [])
    if dry_run:
        _print_plan(client.post("/v1/workspace/prune", dict(wanted, dry_run=True)), json)
        return
    gone: "List[str]" = []
    freed: "Optional[int]" = 0
    more = True
    with _Progress() as progress:
        while more:
            answer = client.post("/v1/workspace/prune", wanted)
            gone += answer["runs"]
            freed = None if freed is None or answer["freed_bytes"] is None else freed + answer["freed_bytes"]
            more = answer["more"] and bool(answer["runs"])
            progress.tell("deleting", len(gone), None)
    if json:
        as_json({"runs": gone, "freed_bytes": freed})
    else:
        result("%s deleted" % _runs(len(gone)))
        say(freed_words(freed))


@app.command("backup")
def backup(
    folder: Folder,
    keep: Annotated[
        Optional[int],
        typer.Option("--keep", min=1, metavar="N", help="Remove all but the N newest backups.", show_default=False),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the backups there instead.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the newest there, or FOLDER, instead.")] = False,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Back a workspace up into a folder, while its runs go on.

    Each backup is whole; what did not change since the one before is shared with it. Prints where it lies.
    """
    from windlass import _backups

    if list_only + verify + (keep is not None) > 1:
        raise typer.BadParameter("--list, --verify and --keep cannot be had together.")
    if list_only:
        _print_backups([_backups.summary(found) for found in _backups.find(folder)], json)
        return
    if verify:
        _verify(_backups.find(folder)[-1], json)
        return
    client = client_of(workspace)
    with _Progress() as progress:
        made = _backups.make(client, folder, keep, progress.tell)
    manifest = made["manifest"]
    if json:
        as_json(made)
    else:
        result(made["backup"])
        say("%s, %s (%s new)%s" % (
            _runs(manifest["runs"]), size(manifest["bytes"]), size(manifest["new_bytes"]),
            ", %d older removed" % len(made["removed"]) if made["removed"] else "",
        ))  # fmt: skip
    if manifest["incomplete"]:
        for line in manifest["incomplete"]:
            say("windlass: " + plain(line))
        say("windlass: The workspace had lost these before; all else is in the backup. See `windlass doctor`.")
        raise typer.Exit(1)


@app.command("restore")
def restore(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="A backup, or a folder of backups: the newest.", show_default=False)
    ],
    name: Annotated[
        Optional[str],
        typer.Option("--name", metavar="NAME", help="Name of the workspace (default: as it was called)."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put a workspace of that name aside, into `deleted` of the home.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Make a workspace of a backup, in this home.

    Every file is checked. Runs keep their ids; those that had not ended when the backup was made are Failed.
    """
    from windlass import _backups

    found = _backups.find(source)[-1]
    with _Progress() as progress:
        made = _backups.restore(found, name, force, progress.tell)
    if json:
        as_json(made._asdict())
        return
    result("Workspace %s in %s" % (made.name, made.folder))
    say("As of %s (%s)." % (_moment(found.manifest.made), ago(found.manifest.made)))
    if made.aside:
        say("The one that had the name lies in %s." % made.aside)
    if made.left:
        say("Already in this home, and left as it is: %s." % plain(", ".join(made.left[:_SHOWN])))


def _print_plan(answer: "Dict[str, Any]", json: bool) -> None:
    if json:
        as_json(answer)
        return
    rows = [(run["id"], ago(run["ended"]), str(run["children"] or ""), size(run["bytes"])) for run in answer["runs"]]
    columns = (Column("RUN"), Column("ENDED"), Column("CHILDREN", right=True), Column("SIZE", right=True))
    table(columns, rows, empty="No run is that old.")
    if answer["kept"]:
        say("%s that old would stay, for a model or a tag." % _runs(answer["kept"]))
    if rows:
        result("%s would go, %s would be freed" % (_runs(len(rows)), size(answer["bytes"])))


def _print_backups(found: "List[Any]", json: bool) -> None:
    if json:
        as_json({"backups": found})
        return
    rows = [
        (os.path.basename(entry["path"]), ago(entry["made"]), str(entry["runs"]), size(entry["bytes"]),
         size(entry["new_bytes"])) for entry in found
    ]  # fmt: skip
    columns = (
        Column("BACKUP"), Column("MADE"), Column("RUNS", right=True), Column("SIZE", right=True),
        Column("NEW", right=True),
    )  # fmt: skip
    table(columns, rows)


def _verify(found: Any, json: bool) -> None:
    from windlass import _backups

    with _Progress() as progress:
        wrong = _backups.verify(found, progress.tell)
    if json:
        as_json({"path": found.path, "damaged": wrong})
    for line in wrong if not json else ():
        say("windlass: " + plain(line))
    if wrong:
        raise typer.Exit(1)
    if not json:
        result("%s: all %d files have their checksums" % (found.path, found.manifest.files))


def _runs(count: int) -> str:
    return "1 run" if count == 1 else "%d runs" % count


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


class _Progress:
    """A line that changes, on a terminal; elsewhere one line per phase, with the time it took."""

    def __enter__(self) -> "_Progress":
        self._phase = ""
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()
        return self

    def __exit__(self, *problem: object) -> None:
        self._close()

    def tell(self, phase: str, done: int, total: "Optional[int]") -> None:
        """Say how far a phase is."""
        if phase != self._phase:
            self._close()
            self._phase, self._began = phase, time.monotonic()
        if self._live:
            count = "" if total in (0, 1) else " %d%s" % (done, " of %d" % total if total else "")
            sys.stderr.write("\r\x1b[K%s%s" % (_PHASES.get(phase, phase), count))
            sys.stderr.flush()

    def _close(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        elif self._phase:
            words = _PHASES.get(self._phase, self._phase)
            say("%s: %s" % (words, took(time.monotonic() - self._began)))
