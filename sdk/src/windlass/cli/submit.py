"""``windlass submit``: run a script."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Dict, List, NamedTuple, Optional

import typer

from windlass.cli._environment_options import (
    Channel,
    Conda,
    CondaFile,
    Dockerfile,
    Image,
    Memory,
    Pip,
    Python,
    Requirements,
    ShmSize,
    environment,
    set_limits,
)
from windlass.cli._follow import follow, log_to, outcome, script_log
from windlass.cli._options import AsJson, WorkspaceName, key_values
from windlass.cli._session import open_workspace
from windlass.cli._show import as_json, plain, result, say, size

if TYPE_CHECKING:
    from windlass._job import Job
    from windlass.environment import Environment
    from windlass.script_run_config import ScriptRunConfig
    from windlass.workspace import Workspace


Script = Annotated[str, typer.Argument(metavar="SCRIPT", help="The script, in the source folder.", show_default=False)]
Arguments = Annotated[
    Optional[List[str]],
    typer.Argument(
        metavar="ARGS", help="Its arguments; put `--` before those that begin with '-'.", show_default=False
    ),
]
Source = Annotated[str, typer.Option("--source", metavar="DIR", help="Folder that is sent to the job.")]
ExperimentName = Annotated[
    Optional[str], typer.Option("--experiment", "-e", metavar="NAME", help="Experiment (default: the folder's name).")
]
Target = Annotated[str, typer.Option("--target", metavar="NAME", help="Compute target.")]
Nodes = Annotated[int, typer.Option("--nodes", min=1, metavar="N", help="Nodes; the script is started on each.")]
DisplayName = Annotated[Optional[str], typer.Option("--name", metavar="TEXT", help="A name for people.")]
Variables = Annotated[
    Optional[List[str]],
    typer.Option("--env", metavar="KEY=VALUE", help="An environment variable; may be repeated."),
]
Tags = Annotated[
    Optional[List[str]], typer.Option("--tag", "-t", metavar="KEY[=VALUE]", help="A tag; may be repeated.")
]
MaxSeconds = Annotated[
    Optional[int], typer.Option("--max-seconds", min=1, metavar="S", help="End the run after so many seconds.")
]
MaxRetries = Annotated[
    int, typer.Option("--max-retries", min=0, metavar="N", help="Begin it anew so often when a node of it is lost.")
]
FollowIt = Annotated[
    bool, typer.Option("--follow/--detach", "-f/-d", help="Watch it to its end, or print its id and leave.")
]
Priority = Annotated[
    int, typer.Option("--priority", metavar="N", help="Runs with a higher one are first in line (0 is usual).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would happen; queue nothing.")]


def submit(
    script: Script, arguments: Arguments = None, source: Source = ".", experiment: ExperimentName = None,
    target: Target = "local", nodes: Nodes = 1, name: DisplayName = None,
    pip: Pip = None, conda: Conda = None, requirements: Requirements = None, conda_file: CondaFile = None,
    channel: Channel = None, python: Python = None, image: Image = None, dockerfile: Dockerfile = None,
    shm_size: ShmSize = None, memory: Memory = None, env: Variables = None, tag: Tags = None,
    max_seconds: MaxSeconds = None, max_retries: MaxRetries = 0, priority: Priority = 0,
    follow_it: FollowIt = True, dry_run: DryRun = False, json: AsJson = False, workspace: WorkspaceName = None,
) -> None:  # fmt: skip
    """Run a script.

    Its folder is sent, its environment built, the run queued and watched to its end: exit code 0 when it completes, 1
    when it fails or is canceled. Ctrl-C stops the watching, not the run.

    The script's own options go after `--`:

    windlass submit train.py --pip numpy -- --epochs 10
    """
    wanted = environment(
        pip, conda, requirements, python, env, conda_file=conda_file, channels=channel, image=image,
        dockerfile=dockerfile,
    )  # fmt: skip
    set_limits(wanted, {"--shm-size": shm_size, "--memory": memory})
    asked = _Asked(
        config=_config(script, arguments, source, target, nodes, wanted, max_seconds),
        experiment=experiment or _mended(os.path.basename(os.path.abspath(source))),
        tags=key_values("--tag", tag, bare=True), name=name, max_retries=max_retries,
        priority=priority,
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


class _Asked(NamedTuple):
    config: "ScriptRunConfig"
    experiment: str
    tags: "Dict[str, str]"
    name: "Optional[str]"
    max_retries: int = 0
    priority: int = 0

    def job(self) -> "Job":
        """The job, as the configuration and the options that it has no argument for ask."""
        from dataclasses import replace

        from windlass._job import retries

        again = retries("--max-retries", self.max_retries)
        return replace(self.config._job(), max_retries=again, priority=self.priority)


def _config(
    script: str, arguments: "Optional[List[str]]", source: str, target: str, nodes: int, wanted: "Environment",
    max_seconds: "Optional[int]",
) -> "ScriptRunConfig":  # fmt: skip
    from windlass.script_run_config import ScriptRunConfig

    config = ScriptRunConfig(
        source, script=_in_source(script, source), arguments=list(arguments or []), compute_target=target,
        environment=wanted, max_run_duration_seconds=max_seconds,
    )  # fmt: skip
    config.run_config.node_count = nodes
    return config


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
    prepared = jobs.prepare(opened._client, experiment.name, asked.job(), asked.tags, asked.name)
    record = jobs.send(opened._client, prepared)
    address = Run._of(experiment, record).get_portal_url()
    say("Submitted %s to %s.\nWeb view: %s" % (record.id, record.spec.target, address), style="bold")
    return dict(to_wire(record))


def _plan(opened: "Workspace", asked: _Asked, json: bool) -> None:
    from windlass.cli._dry_run import plan

    planned = plan(opened._client, asked.experiment, asked.job(), asked.tags, asked.name)
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
    for line in _container_lines(planned["spec"]):
        result("- %s" % plain(line))
    for step in planned["plan"]["steps"]:
        result("- %s" % plain(step))


def _container_lines(spec: "Dict[str, Any]") -> "List[str]":
    """What the run's container would be; nothing without one."""
    container, options = spec["environment"].get("container"), spec.get("container") or {}
    if not container:
        return []
    image = "/".join(filter(None, (container["registry"], container["image"]))) or "the image that the Dockerfile makes"
    limits = [
        "%s %s" % (words, size(options[name]))
        for name, words in (("shm_bytes", "shared memory"), ("memory_bytes", "memory"))
        if options.get(name)
    ]
    return ["in a container of %s%s" % (image, " (%s)" % ", ".join(limits) if limits else "")]


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
