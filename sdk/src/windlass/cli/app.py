"""The command line's root: everyday verbs, and a group of commands for each noun."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from windlass.cli import compute, data, doctor, env, experiment, logs, model, run, server, submit
from windlass.cli import init as init_command
from windlass.cli import open as open_command
from windlass.cli import workspace as workspace_command
from windlass.cli._options import SETTINGS, AsJson, ScriptCommand
from windlass.cli._session import choose
from windlass.cli._show import as_json, result

app = typer.Typer(
    context_settings=SETTINGS, rich_markup_mode=None, add_completion=False, no_args_is_help=True,
    pretty_exceptions_enable=False,
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
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


app.command("init")(init_command.init)
app.command("submit", cls=ScriptCommand)(submit.submit)
app.command("ps")(run.ps)
app.command("logs")(logs.logs)
app.command("stop")(run.stop)
app.command("open")(open_command.open_page)
app.command("doctor")(doctor.doctor)
app.add_typer(run.app, name="run")
app.add_typer(experiment.app, name="experiment")
app.add_typer(compute.app, name="compute")
app.add_typer(env.app, name="env")
app.add_typer(data.app, name="data")
app.add_typer(model.app, name="model")
app.add_typer(server.app, name="server")
app.add_typer(workspace_command.app, name="workspace")


@app.command("version")
def version(json: AsJson = False) -> None:
    """Print the version."""
    import windlass

    if json:
        as_json({"version": windlass.__version__, "azureml": windlass.VERSION})
    else:
        result("windlass %s" % windlass.__version__)
