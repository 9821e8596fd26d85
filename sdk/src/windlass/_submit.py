"""Submit a job: check what can be checked, snapshot the source folder, and only then queue it."""

from __future__ import annotations

import getpass
import os
import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, Mapping, NamedTuple, Optional, Sequence

from windlass import _registry_logins, _snapshot
from windlass._git import GitState
from windlass._job import Job
from windlass._not_offered import NODES_APART, ONE_ONLY, not_offered
from windlass._registry_logins import RegistryLogin
from windlass.conda_dependencies import package_name
from windlass.errors import (
    AzureMLException,
    ComputeTargetException,
    ExperimentExecutionException,
    SnapshotException,
    UserErrorException,
    did_you_mean,
)
from windlass.specs._codec import to_wire
from windlass.specs.frameworks import FRAMEWORKS
from windlass.specs.run import RunRecord, RunSpec

if TYPE_CHECKING:
    from windlass._transport.client import Client

_LOCAL = "local"
_SENT_AT_ONCE_BYTES = 4 << 20


class Prepared(NamedTuple):
    """A job that passed every check of the client, its source folder sent."""

    spec: RunSpec
    listing: _snapshot.Listing
    logins: "Sequence[RegistryLogin]" = ()


def submit(
    client: Client, experiment: str, job: Job, tags: "Mapping[str, str]", parent_id: "Optional[str]" = None
) -> RunRecord:
    """The record of a new run of ``job``, a child of ``parent_id`` when that is given.

    Raises:
        UserErrorException, ComputeTargetException, SnapshotException, ExperimentExecutionException: see ``check_*``.
    """
    request_id = str(uuid.uuid4())
    try:
        return send(client, _child_of(parent_id, prepare(client, experiment, job, tags)), request_id)
    except AzureMLException as problem:
        if problem.error_code != "snapshot_not_stored":
            raise
    again = prepare(client, experiment, job, tags)  # the server was killed in between
    return send(client, _child_of(parent_id, again), request_id)


def _child_of(parent_id: "Optional[str]", prepared: Prepared) -> Prepared:
    return prepared._replace(spec=replace(prepared.spec, parent_id=parent_id))


def prepare(
    client: Client, experiment: str, job: Job, tags: "Mapping[str, str]", display_name: "Optional[str]" = None
) -> Prepared:
    """Check ``job`` and send its source folder; what remains is ``send`` (or ``plan``). Raises as ``submit`` does."""
    root = check_source(job.source_directory)
    script = "" if job.command else check_script(root, job)
    git = GitState(root)  # runs beside what follows
    try:
        job = with_cluster(client, job)
        listing = _snapshot.list_files(root)
        check_counts(client, job, sum(file.size for file in listing.files))
        if script:
            check_listed(script, job, listing)
        check_shadowing(job, listing.files)
        snapshot_id = _snapshot.take(client, listing.files)
        git_facts = git.read()
    finally:
        git.close()
    spec = RunSpec(
        experiment=experiment, script=script, snapshot_id=snapshot_id, target=job.target, arguments=job.arguments,
        environment=job.environment, environment_variables=job.environment_variables, node_count=job.node_count,
        process_count_per_node=job.process_count_per_node, max_run_duration_s=job.max_run_duration_s,
        framework=job.framework, communicator=job.communicator, display_name=display_name, tags=tags,
        source_directory=root, git=git_facts, submitted_by=_user(), data=job.data,
        command=job.command, shell=job.shell, definition=job.definition, container=job.container,
        priority=job.priority, use_gpu=job.use_gpu, max_retries=job.max_retries,
    )  # fmt: skip
    return Prepared(spec, listing, job.logins)


def send(client: Client, prepared: Prepared, request_id: "Optional[str]" = None) -> RunRecord:
    """Queue a prepared job; the record of its run, the same one for the same ``request_id``."""
    _registry_logins.send(client, prepared.logins)
    body = {"request_id": request_id or str(uuid.uuid4()), "spec": to_wire(prepared.spec)}
    return RunRecord.from_wire(client.post("/v1/runs", body))


def plan(client: Client, prepared: Prepared) -> "Dict[str, Any]":
    """What ``send`` would do (``engine``, ``steps``); nothing is queued."""
    answer = client.post("/v1/runs", {"spec": to_wire(prepared.spec), "dry_run": True})
    return dict(answer["plan"])


def check_source(source_directory: str) -> str:
    """Absolute path of the source folder.

    Raises:
        UserErrorException: it is missing or no folder.
    """
    root = os.path.abspath(os.path.expanduser(source_directory))
    if os.path.isdir(root):
        return root
    if os.path.exists(root):
        raise UserErrorException(
            "source_directory=%r is a file; give the folder that holds it (%s)."
            % (source_directory, os.path.dirname(root))
        )
    parent = os.path.dirname(root)
    near = did_you_mean(os.path.basename(root), os.listdir(parent)) if os.path.isdir(parent) else ""
    raise UserErrorException(
        "source_directory=%r does not exist (looked for %s).%s Make it, or give the folder of your script."
        % (source_directory, root, near)
    )


def check_script(root: str, job: Job) -> str:
    """The entry script relative to ``root``, with forward slashes.

    Raises:
        UserErrorException: it is missing, no file, or outside of the source folder.
    """
    name, given = job.script_argument, job.script
    place = os.path.normpath(os.path.join(root, given))
    relative = os.path.relpath(place, root)
    if os.path.isabs(given) or relative.split(os.sep)[0] == os.pardir:
        raise UserErrorException(
            "%s=%r is not inside source_directory (%s). Give its path relative to source_directory, and move it in "
            "there if it lies elsewhere." % (name, given, root)
        )
    if not os.path.isfile(place):
        raise UserErrorException(
            "%s=%r does not exist in source_directory (%s).%s" % (name, given, root, _near_script(root, relative))
        )
    real, real_root = os.path.realpath(place), os.path.realpath(root)
    if not real.startswith(real_root + os.sep):
        raise UserErrorException(
            "%s=%r is a link that leads out of source_directory, to %s. Copy the file into %s."
            % (name, given, real, root)
        )
    return relative.replace(os.sep, "/")


def with_cluster(client: Client, job: Job) -> Job:
    """``job`` with a target: runs that name a ``vm_size`` and no target share one cluster per size and priority."""
    if job.vm_size is None:
        return job
    from windlass.compute import AmlCompute
    from windlass.specs.cluster import ClusterSpec

    known = {c["spec"]["name"]: c["spec"] for c in client.get("/v1/computes")["computes"]}
    name = re.sub(r"[^A-Za-z0-9]+", "-", "run-%s" % job.vm_size).strip("-").lower()[:60]
    priority = job.vm_priority or "dedicated"
    AmlCompute.provisioning_configuration(vm_size=job.vm_size, vm_priority=priority).validate_configuration()
    if priority != "dedicated":
        name += "-lp"
    if name not in known or int(known[name]["max_nodes"]) < job.node_count:
        spec = ClusterSpec(name=name, vm_size=job.vm_size, vm_priority=priority, max_nodes=max(4, job.node_count))
        client.put("/v1/computes/%s" % name, to_wire(spec))
    return replace(job, target=name)


def check_counts(client: Client, job: Job, source_bytes: int) -> None:
    """Check the counts; and the compute target, where a name that is none would be told only after much was sent.

    Raises:
        ComputeTargetException: there is no such target; near matches are named.
        UserErrorException: more nodes than it may have.
        NotOffered: more than one process on a node, or several nodes that a launcher must bring together.
    """
    asks = job.node_count > 1 or source_bytes > _SENT_AT_ONCE_BYTES  # else the server's answer to the job says it
    most = _max_nodes(client, job.target) if asks else None
    if most is not None and job.node_count > most:
        raise UserErrorException(
            "node_count=%d is more than the compute target %r may have (max_nodes=%d). Lower node_count, or raise "
            "max_nodes with update()." % (job.node_count, job.target, most)
        )
    if job.node_count > 1 and job.communicator.lower() != "none":
        what = "Distributed training on several nodes (node_count=%d, communicator=%r)"
        raise not_offered(what % (job.node_count, job.communicator), NODES_APART)
    if job.process_count_per_node > 1:
        what = "Distributed training (process_count_per_node=%d)" % job.process_count_per_node
        raise not_offered(what, ONE_ONLY["process_count_per_node"])


def check_listed(script: str, job: Job, listing: "_snapshot.Listing") -> None:
    """Raise UserErrorException when the entry script is left out of the snapshot."""
    if any(file.path == script for file in listing.files):
        return
    for path, reason in listing.left_out.items():
        if script == path or (path.endswith("/") and script.startswith(path)):
            raise UserErrorException(
                "%s=%r would not reach the job: %s is left out of the snapshot by %s."
                % (job.script_argument, job.script, path, reason)
            )
    raise SnapshotException(
        "%s=%r vanished while the snapshot was taken. Submit again." % (job.script_argument, script)
    )


def check_shadowing(job: Job, files: "Sequence[_snapshot.SourceFile]") -> None:
    """Raise UserErrorException when a file beside the script would be imported instead of a package asked for."""
    wanted = job.environment.pip_packages + job.environment.conda_packages
    modules = {package_name(package).replace("-", "_"): package for package in wanted}
    framework = FRAMEWORKS.get(job.environment.framework or "")
    if framework is not None:
        modules[framework.module or framework.package] = framework.package
    folder = os.path.dirname(job.script.replace(os.sep, "/"))
    for file in files:
        base, _, name = file.path.rpartition("/")
        module = name[:-3] if name.endswith(".py") else ""
        if name == "__init__.py":
            base, _, module = base.rpartition("/")
        if base == os.path.normpath(folder).lstrip(".") and module.lower() in modules:
            raise UserErrorException(
                "The file %s would be imported instead of the package %r that the environment asks for. Rename it."
                % (file.path, modules[module.lower()])
            )


def _max_nodes(client: Client, target: str) -> "Optional[int]":
    """Most nodes that the target may have; None for the machine itself, whose slots the server counts."""
    known: "Dict[str, Any]" = {c["spec"]["name"]: c["spec"] for c in client.get("/v1/computes")["computes"]}
    if target in known:
        return int(known[target]["max_nodes"])
    if target == _LOCAL:
        return None
    names = [_LOCAL] + [name for name in sorted(known) if name != _LOCAL]
    raise ComputeTargetException(
        "compute_target=%r is not a compute target of this workspace.%s There are: %s. Make one with "
        "ComputeTarget.create(ws, %r, AmlCompute.provisioning_configuration(...))."
        % (target, did_you_mean(target, names), ", ".join(names), target)
    )


def _near_script(root: str, relative: str) -> str:
    here = os.path.dirname(os.path.join(root, relative))
    names = [name for name in os.listdir(here) if name.endswith(".py")] if os.path.isdir(here) else []
    near = did_you_mean(os.path.basename(relative), names)
    if near:
        return near
    return " It has: %s." % ", ".join(sorted(names)[:10]) if names else " There is no Python file in it."


def _user() -> "Optional[str]":
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user id without a name
        return None


def checked_tags(tags: Any) -> "Dict[str, str]":
    """Tags as text.

    Raises:
        ExperimentExecutionException: they are no dictionary.
    """
    if tags is None:
        return {}
    if not isinstance(tags, dict):
        raise ExperimentExecutionException("tags must be a dictionary such as {'kind': 'baseline'}, not %r." % (tags,))
    return {str(key): "" if value is None else str(value) for key, value in tags.items()}
