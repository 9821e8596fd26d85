"""The command line's root: everyday verbs, and a group of commands for each noun."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from windlass.cli._lazy import Place, group_of
from windlass.cli._options import SETTINGS, ScriptCommand
from windlass.cli._session import choose
from windlass.cli._version import version as print_version

_COMMANDS = {
    "init": Place("windlass.cli.init", "init"),
    "submit": Place("windlass.cli.submit", "submit", ScriptCommand),
    "ps": Place("windlass.cli.run", "ps"),
    "logs": Place("windlass.cli.logs", "logs"),
    "stop": Place("windlass.cli.run", "stop"),
    "open": Place("windlass.cli.open", "open_page"),
    "doctor": Place("windlass.cli.doctor", "doctor"),
    "version": Place("windlass.cli._version", "version"),
    "run": Place("windlass.cli.run"),
    "experiment": Place("windlass.cli.experiment"),
    "compute": Place("windlass.cli.compute"),
    "env": Place("windlass.cli.env"),
    "data": Place("windlass.cli.data"),
    "model": Place("windlass.cli.model"),
    "server": Place("windlass.cli.server"),
    "workspace": Place("windlass.cli.workspace"),
}

app = typer.Typer(
    cls=group_of(_COMMANDS), context_settings=SETTINGS, rich_markup_mode=None, add_completion=False,
    no_args_is_help=True, pretty_exceptions_enable=False,
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        print_version()
        raise typer.Exit()


@app.callback()
def root(
    workspace: Annotated[
        Optional[str],
        typer.Option("--workspace", "-w", metavar="NAME", help="Workspace of the command that follows."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Run training scripts on your own machines.

    Start with `windlass init` in your project's folder, then `windlass submit SCRIPT`.
    """
    choose(workspace)
