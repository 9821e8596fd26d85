"""Take a run: check what the client could not, and write it down."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from windlass import settings
from windlass.errors import ComputeTargetException, ExperimentExecutionException, UserErrorException, did_you_mean
from windlass.specs.container import ContainerLaunch
from windlass.specs.launch import EnvironmentLaunch, LaunchSpec
from windlass.specs.run import RunRecord, RunSpec
from windlassd.compute.base import JobSpec, Plan
from windlassd.control import data
from windlassd.control.core import Core
from windlassd.control.losses import lease_of
from windlassd.store.base import Writer

_OPTION_NAMES = {
    "shm_bytes": "shm_size", "memory_bytes": "the memory limit", "cpus": "the limit of cpus", "gpus": "--gpus",
    "volumes": "volumes", "ulimits": "ulimits", "host_ipc": "--ipc=host", "network": "--network",
}  # fmt: skip
_LONGEST_RUN_S = 315_360_000
_MOST_RETRIES = 1000
_FARTHEST = 1_000_000
_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")


async def create(core: Core, spec: RunSpec, request_id: str | None) -> tuple[RunRecord, bool]:
    """The run's record, durable, and whether it is new (False when this request was seen before).

    Raises:
        UserErrorException: (or its kin) something in ``spec`` cannot work.
    """
    if request_id and (seen := core.read(lambda tx: tx.run_of_request(request_id))):
        return seen, False
    check(core, spec)
    now = time.time()
    own_id = f"{spec.experiment}_{int(now)}_{secrets.token_hex(4)}"

    def work(tx: Writer) -> RunRecord:
        run_id = own_id if spec.parent_id is None else tx.next_child_id(spec.parent_id)
        if tx.find_snapshot(spec.snapshot_id) is None:  # it went with the last run that had it, in this very moment
            raise _not_stored(spec.snapshot_id)
        data.remember(tx, spec, now)
        return tx.create_run(run_id, spec, now=now, request_id=request_id)

    return await core.write(work), True


def check(core: Core, spec: RunSpec) -> JobSpec:
    """The job that ``spec`` stands for, if it can be one."""
    check_experiment(spec.experiment)
    files = core.read(lambda tx: tx.find_snapshot(spec.snapshot_id))
    if files is None:
        raise _not_stored(spec.snapshot_id)
    paths = [f["path"] for f in files]
    if spec.script not in paths and not spec.command:
        raise UserErrorException(
            f"The entry script {spec.script!r} is not in the source folder{_of(spec)}."
            f"{did_you_mean(spec.script, paths)}"
        )
    core.envs.check(spec.environment, elsewhere=core.engine(core.cluster(spec.target)).elsewhere)
    data.check(core, spec)
    job = job_of(core, "new", spec, python="", attempt=1)
    _check_counts(spec, job)
    check_priority(spec.priority)
    _check_retries(spec.max_retries)
    _check_texts(spec)
    unsupported = core.engine(job.cluster).unsupported(job)
    if unsupported:
        raise UserErrorException(" ".join(unsupported.values()), error_code="not_offered")
    return job


def check_priority(priority: object) -> None:
    """Raise UserErrorException when ``priority`` cannot be a run's."""
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > _FARTHEST:
        raise UserErrorException(
            f"priority is {priority!r}; it must be a whole number from -{_FARTHEST} to {_FARTHEST}: higher ones are"
            " first in line, 0 is usual."
        )


def _check_retries(max_retries: object) -> None:
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or not 0 <= max_retries <= _MOST_RETRIES:
        raise UserErrorException(
            f"max_retries is {max_retries!r}; it must be a whole number from 0 to {_MOST_RETRIES}: so often a run whose"
            " node is lost is begun anew on another."
        )


def _not_stored(snapshot_id: str) -> ExperimentExecutionException:
    return ExperimentExecutionException(
        f"The snapshot {snapshot_id!r} is not stored; submit the folder again.", error_code="snapshot_not_stored"
    )


def check_experiment(name: str) -> None:
    """Raise UserErrorException when ``name`` cannot be an experiment's."""
    if not _EXPERIMENT.match(name):
        raise UserErrorException(
            f"{name!r} cannot name an experiment: 1 to 128 letters, digits, '_', '-' or '.', beginning with "
            "a letter or digit."
        )


def plan(core: Core, spec: RunSpec) -> Plan:
    """What submitting ``spec`` would do; nothing is changed."""
    job = check(core, spec)
    engine = core.engine(job.cluster)
    planned, unused = engine.plan(job), unused_retries(spec, engine.elsewhere)
    return replace(planned, steps=(*planned.steps, unused)) if unused else planned


def job_of(
    core: Core,
    run_id: str,
    spec: RunSpec,
    *,
    python: str,
    attempt: int,
    container: ContainerLaunch | None = None,
    environment: EnvironmentLaunch | None = None,
) -> JobSpec:
    """The engine's view of a run."""
    cluster = core.cluster(spec.target)
    launch = LaunchSpec(
        run_id=run_id, attempt=attempt, node="", node_rank=0, script=spec.script, arguments=tuple(spec.arguments),
        snapshot_id=spec.snapshot_id, python=python, environment_variables=spec.environment_variables,
        process_count=spec.process_count_per_node, max_run_duration_s=spec.max_run_duration_s,
        stop_grace_s=settings.get("stop_grace_s"), experiment=spec.experiment,
        data=data.resolved(core, spec, run_id), command=tuple(spec.command), shell=spec.shell,
        communicator=spec.communicator, container=container, environment=environment,
        lease_s=lease_of(spec.max_retries, core.engine(cluster).elsewhere),
    )  # fmt: skip
    return JobSpec(cluster, launch, spec.node_count, spec.use_gpu)


def container_of(spec: RunSpec, environment: Mapping[str, Any]) -> ContainerLaunch | None:
    """The container that a run with this finished ``environment`` runs in; None without an image."""
    if environment.get("platform") and spec.environment.container:
        return ContainerLaunch("", "", spec.container)  # which ones the node finds out
    image, engine = environment.get("image"), environment.get("engine")
    return ContainerLaunch(str(image), str(engine), spec.container) if image and engine else None


def unused_options(spec: RunSpec) -> str | None:
    """A sentence on container options of a run that has no container; None when it has none of those."""
    given = [_OPTION_NAMES[f.name] for f in fields(spec.container) if getattr(spec.container, f.name)]
    if not given:
        return None
    verb = "hold" if len(given) > 1 else "holds"
    return f"{', '.join(given)} {verb} in containers only: the environment of this run has no image."


def unused_retries(spec: RunSpec, elsewhere: bool) -> str | None:
    """A sentence on ``max_retries`` of a run that no other node can take; None when it is honoured or not given."""
    if not spec.max_retries or elsewhere:
        return None
    return (
        f"max_retries ({spec.max_retries}) is for nodes that are other machines, which can be lost alone: a run on "
        "this machine is not begun anew."
    )


def describe(planned: Plan) -> Mapping[str, Any]:
    """The answer to a dry run."""
    return {"plan": {"engine": planned.engine, "steps": list(planned.steps)}, "text": str(planned)}


def _check_texts(spec: RunSpec) -> None:
    """What no process can be given: NUL anywhere, and '=' in a variable's name."""
    for number, argument in enumerate(spec.arguments):
        if "\0" in argument:
            raise UserErrorException(
                f"Argument {number + 1} ({argument[:60]!r}) holds a NUL, which no process can be given."
            )
    for name, value in spec.environment_variables.items():
        if not name or "=" in name or "\0" in name + value:
            raise UserErrorException(
                f"The environment variable {name[:60]!r} cannot be set: its name must be text without '=', and neither "
                "name nor value may hold a NUL."
            )


def _check_counts(spec: RunSpec, job: JobSpec) -> None:
    if spec.max_run_duration_s is not None and not 0 < spec.max_run_duration_s <= _LONGEST_RUN_S:
        raise UserErrorException(
            f"max_run_duration_seconds is {spec.max_run_duration_s}; it must be between 1 and {_LONGEST_RUN_S} (ten "
            "years), or left out."
        )
    for name, value in (("node_count", spec.node_count), ("process_count_per_node", spec.process_count_per_node)):
        if not isinstance(value, int) or value < 1:
            raise UserErrorException(f"{name} is {value!r}; it must be a whole number of 1 or more.")
    if spec.node_count > job.cluster.max_nodes:
        raise ComputeTargetException(
            f"node_count is {spec.node_count}, but {spec.target!r} has at most {job.cluster.max_nodes} nodes. "
            f"Ask for fewer nodes, or raise max_nodes with `target.update(max_nodes={spec.node_count})`."
        )


def _of(spec: RunSpec) -> str:
    return f" {spec.source_directory}" if spec.source_directory else ""
