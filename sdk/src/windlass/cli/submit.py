"""``windlass submit``: run a script."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Dict, List, NamedTuple, Optional

import typer

from windlass.cli._follow import follow, log_to, outcome, script_log
from windlass.cli._options import AsJson, WorkspaceName, key_values
from windlass.cli._session import open_workspace
from windlass.cli._show import as_json, plain, result, say, size

if TYPE_CHECKING:
    from windlass.environment import Environment
    from windlass.script_run_config import ScriptRunConfig
    from windlass.workspace import Workspace


def submit(
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="The script, in the source folder.", show_default=False)
    ],
    arguments: Annotated[
        Optional[List[str]],
        typer.Argument(
            metavar="ARGS", help="Its arguments; put `--` before those that begin with '-'.", show_default=False
        ),
    ] = None,
    source: Annotated[str, typer.Option("--source", metavar="DIR", help="Folder that is sent to the job.")] = ".",
    experiment: Annotated[
        Optional[str],
        typer.Option("--experiment", "-e", metavar="NAME", help="Experiment (default: the folder's name)."),
    ] = None,
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="Compute target.")] = "local",
    name: Annotated[Optional[str], typer.Option("--name", metavar="TEXT", help="A name for people.")] = None,
    pip: Annotated[
        Optional[List[str]], typer.Option("--pip", metavar="PKG", help="A package, in pip's syntax; may be repeated.")
    ] = None,
    conda: Annotated[
        Optional[List[str]], typer.Option("--conda", metavar="PKG", help="A conda package; may be repeated.")
    ] = None,
    requirements: Annotated[
        Optional[str], typer.Option("--requirements", metavar="FILE", help="A requirements file with more packages.")
    ] = None,
    python: Annotated[
        Optional[str], typer.Option("--python", metavar="VERSION", help="Python version, such as 3.9.")
    ] = None,
    env: Annotated[
        Optional[List[str]],
        typer.Option("--env", metavar="KEY=VALUE", help="An environment variable; may be repeated."),
    ] = None,
    tag: Annotated[
        Optional[List[str]], typer.Option("--tag", "-t", metavar="KEY[=VALUE]", help="A tag; may be repeated.")
    ] = None,
    max_seconds: Annotated[
        Optional[int], typer.Option("--max-seconds", min=1, metavar="S", help="End the run after so many seconds.")
    ] = None,
    follow_it: Annotated[
        bool, typer.Option("--follow/--detach", "-f/-d", help="Watch it to its end, or print its id and leave.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would happen; queue nothing.")] = False,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """Run a script.

    Its folder is sent, its environment built, the run queued and watched to its end: exit code 0 when it completes, 1
    when it fails or is canceled. Ctrl-C stops the watching, not the run.

    The script's own options go after `--`:

    windlass submit train.py --pip numpy -- --epochs 10
    """
    wanted = environment(pip, conda, requirements, python, env)
    asked = _Asked(
        config=_config(script, arguments, source, target, wanted, max_seconds),
        experiment=experiment or _mended(os.path.basename(os.path.abspath(source))),
        tags=key_values("--tag", tag, bare=True), name=name,
    )  # fmt: skip
    opened = open_workspace(workspace)
    if dry_run:
        _plan(opened, asked, json)
        return
    record = _submit(opened, asked)
    if not follow_it:
        as_json(record) if json else result(record["id"])
        _next(record["id"], ended=False)
        return
    ended = follow(opened._client, record["id"], log_to(sys.stderr) if json else script_log)
    if json:
        as_json(ended)
    say("%s: %s" % (ended["id"], outcome(ended)), style="bold")
    _next(ended["id"], ended=True)
    if ended["status"] != "Completed":
        raise typer.Exit(1)


def environment(
    pip: "Optional[List[str]]" = None, conda: "Optional[List[str]]" = None, requirements: "Optional[str]" = None,
    python: "Optional[str]" = None, variables: "Optional[List[str]]" = None,
) -> "Environment":  # fmt: skip
    """The environment that the options ask for."""
    from windlass._requirements_file import read_requirements
    from windlass.conda_dependencies import CondaDependencies
    from windlass.environment import Environment

    packages = (read_requirements(requirements) if requirements else []) + (pip or [])
    made = Environment("cli")
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=packages, conda_packages=conda or [], python_version=python
    )
    made.environment_variables = key_values("--env", variables)
    return made


class _Asked(NamedTuple):
    config: "ScriptRunConfig"
    experiment: str
    tags: "Dict[str, str]"
    name: "Optional[str]"


def _config(
    script: str, arguments: "Optional[List[str]]", source: str, target: str, wanted: "Environment",
    max_seconds: "Optional[int]",
) -> "ScriptRunConfig":  # fmt: skip
    from windlass.script_run_config import ScriptRunConfig

    return ScriptRunConfig(
        source, script=_in_source(script, source), arguments=list(arguments or []), compute_target=target,
        environment=wanted, max_run_duration_seconds=max_seconds,
    )  # fmt: skip


def _in_source(script: str, source: str) -> str:
    """``script`` relative to ``source``, also when it was given (by a shell's completion) relative to where we are."""
    if os.path.isfile(os.path.join(source, script)) or not os.path.isfile(script):
        return script
    relative = os.path.relpath(script, source)
    return script if relative.split(os.sep)[0] == os.pardir else relative


def _mended(folder: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", folder).strip("-_")[:200] or "experiment"


def _submit(opened: "Workspace", asked: _Asked) -> "Dict[str, Any]":
    from windlass import _submit as jobs
    from windlass.experiment import Experiment
    from windlass.run import Run
    from windlass.specs._codec import to_wire

    experiment = Experiment(opened, asked.experiment)
    prepared = jobs.prepare(opened._client, experiment.name, asked.config._job(), asked.tags, asked.name)
    record = jobs.send(opened._client, prepared)
    address = Run._of(experiment, record).get_portal_url()
    say("Submitted %s to %s.\nWeb view: %s" % (record.id, record.spec.target, address), style="bold")
    return dict(to_wire(record))


def _plan(opened: "Workspace", asked: _Asked, json: bool) -> None:
    from windlass.cli._dry_run import plan

    planned = plan(opened._client, asked.experiment, asked.config._job(), asked.tags, asked.name)
    if json:
        as_json(planned)
        return
    snapshot = planned["snapshot"]
    result("Nothing was queued. The run would be of %s, on %s:" % (asked.experiment, planned["spec"]["target"]))
    result(
        "- send %d files (%s) of %s" % (snapshot["files"], size(snapshot["bytes"]), planned["spec"]["source_directory"])
    )
    for path, reason in snapshot["left_out"].items():
        result("    without %s: %s" % (plain(path), plain(reason)))
    for step in planned["plan"]["steps"]:
        result("- %s" % plain(step))


def _next(run_id: str, ended: bool) -> None:
    if ended:
        lines = [
            "run show %s    all about it" % run_id,
            "run files %s   what it kept" % run_id,
            "open %s        its page" % run_id,
        ]
    else:
        lines = ["logs -f %s   watch it" % run_id, "stop %s      end it" % run_id, "open %s      its page" % run_id]
    say("\n".join("  windlass " + line for line in lines))
