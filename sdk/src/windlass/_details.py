"""A run record in v1's shape: the ``get_details()`` dictionary, times as text, small tables for notebooks."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Mapping, Optional

from windlass import _data_details
from windlass.specs._codec import to_wire
from windlass.specs.run import JOB, RunRecord, RunSpec
from windlass.specs.status import RunStatus

_SHORT = ("runId", "status", "target", "startTimeUtc", "endTimeUtc")


class Details(Dict[str, Any]):
    """A dictionary whose keys also read as attributes: v1's documents use both ``d["status"]`` and ``d.status``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError("no %r here; there are: %s" % (name, ", ".join(sorted(self)))) from None

    def _repr_html_(self) -> str:
        """A short table, all of it folded below: a notebook's last line is often ``run.wait_for_completion()``."""
        import json
        from html import escape

        short = {key: str(self[key]) for key in _SHORT if self.get(key)}
        whole = escape(json.dumps(self, indent=1, default=str))
        return "%s<details><summary>all details</summary><pre>%s</pre></details>" % (html_table(short), whole)


def run_details(record: RunRecord, web: str, files: "Iterable[str]") -> Details:
    """What ``Run.get_details`` returns; ``files`` are the names of the run's kept files."""
    spec = record.spec
    details = Details(
        runId=record.id,
        target=spec.target,
        status=record.status.value,
        startTimeUtc=iso_time(record.started),
        endTimeUtc=iso_time(record.ended),
        properties=properties(record),
        inputDatasets=_data_details.input_datasets(spec.data),
        outputDatasets=_data_details.output_datasets(spec.data),
        runDefinition=_definition(record),
        logFiles={name: "%s/runs/%s/files/%s" % (web, record.id, name) for name in files if is_log(name)},
        submittedBy=spec.submitted_by,
        error=error(record),
        statusReason=record.reason.message if record.reason else None,
    )
    return details


def is_log(name: str) -> bool:
    """True for the names of log files."""
    return name.startswith(("azureml-logs/", "logs/", "user_logs/"))


def properties(record: RunRecord) -> "Dict[str, str]":
    """The run's properties with those that v1 adds by itself."""
    found = {}
    if record.spec.kind == JOB:
        found["_azureml.ComputeTargetType"] = "local" if record.spec.target == "local" else "amlcompute"
    if record.spec.snapshot_id:
        found["ContentSnapshotId"] = record.spec.snapshot_id
    found.update({"azureml.git.%s" % key: value for key, value in record.spec.git.items()})
    found.update(record.properties)
    return found


def error(record: RunRecord) -> "Optional[Details]":
    """v1's error of a failed or canceled run: ``{"error": {"code", "message"}}``; None for any other."""
    if record.status not in (RunStatus.FAILED, RunStatus.CANCELED):
        return None
    code = record.reason.code if record.reason else record.status.value.lower()
    message = record.reason.message if record.reason else "The run is %s." % record.status.value
    inner = Details(code=code, message=message, exitCode=record.exit_code, signal=record.exit_signal)
    return Details(error=inner)


def _definition(record: RunRecord) -> Details:
    spec = record.spec
    definition = Details(
        script=spec.script,
        command=spec.command[0] if spec.shell else list(spec.command) if spec.command else "",
        useAbsolutePath=False,
        arguments=list(spec.arguments),
        sourceDirectoryDataStore=None,
        framework=spec.framework,
        communicator=spec.communicator,
        target=spec.target,
        **_data_details.definition(spec.data),
        jobName=None,
        maxRunDurationSeconds=spec.max_run_duration_s,
        nodeCount=spec.node_count,
        priority=spec.priority or None,
        environment=_environment(record),
        history={"outputCollection": True, "directoriesToWatch": ["logs"]},
        amlCompute={"clusterMaxNodeCount": spec.node_count},
        tensorflow={"workerCount": 1, "parameterServerCount": 1},
        mpi={"processCountPerNode": spec.process_count_per_node},
        pyTorch={"communicationBackend": None, "processCount": None},
        docker={"useDocker": spec.environment.container is not None},
        environmentVariables=dict(spec.environment_variables),
        processCountPerNode=spec.process_count_per_node,
        sourceDirectory=spec.source_directory,
        git=dict(spec.git),
    )
    definition.update(spec.definition)
    return definition


def _environment(record: RunRecord) -> Details:
    asked = record.spec.environment
    return Details(
        name=asked.name,
        version=None,
        python={
            "interpreterPath": asked.interpreter,
            "userManagedDependencies": asked.user_managed,
            "condaDependencies": conda_dictionary(
                asked.python_version, asked.conda_packages, asked.pip_packages, asked.channels
            ),
        },
        environmentVariables=dict(record.spec.environment_variables),
        docker=_docker(record.spec),
        resolved=dict(record.environment),
    )


def _docker(spec: RunSpec) -> "Dict[str, Any]":
    """The container that was asked for, in v1's shape; empty without one."""
    container, options = spec.environment.container, spec.container
    if container is None:
        return {}
    return {
        "enabled": True,
        "baseImage": container.image,
        "baseDockerfile": container.dockerfile,
        "buildContext": {"location": container.context} if container.context else None,
        "baseImageRegistry": {"address": container.registry, "username": container.username},
        "sharedVolumes": True,
        "shmSize": options.shm_bytes,
        "options": {name: value for name, value in to_wire(options).items() if value},
    }


def conda_dictionary(
    python_version: "Optional[str]", conda_packages: "Iterable[str]", pip_packages: "Iterable[str]",
    channels: "Iterable[str]" = (), variables: "Optional[Mapping[str, str]]" = None,
) -> "Dict[str, Any]":  # fmt: skip
    """Packages in the shape of a conda environment file."""
    conda, pip = list(conda_packages), list(pip_packages)
    ranged = any(re.match(r"(\S+::)?python\s*[<>=!~]", package) for package in conda)
    python = ["python=%s" % python_version] if python_version else [] if ranged else ["python"]
    found: "Dict[str, Any]" = {"name": "project_environment"}
    if list(channels):
        found["channels"] = list(channels)
    found["dependencies"] = [*python, *conda, *([{"pip": pip}] if pip else [])]
    if variables:
        found["variables"] = dict(variables)
    return found


def iso_time(seconds: "Optional[float]") -> "Optional[str]":
    """Unix seconds as ``2026-11-20T09:16:00.000000Z``; None stays None."""
    if seconds is None:
        return None
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unix_time(text: "Optional[str]") -> "Optional[float]":
    """The Unix seconds that ``iso_time`` made ``text`` from; None stays None."""
    if text is None:
        return None
    from datetime import datetime, timezone

    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


def status_line(record: RunRecord) -> str:
    """Status and reason in one line, such as "Queued: 3rd in line on gpucluster, waits for 2 nodes, 1 free"."""
    status, message = record.status.value, record.reason.message if record.reason else ""
    if not message:
        return status
    return message if message.startswith(status + ":") else "%s: %s" % (status, message)


def worth_a_line(record: RunRecord) -> bool:
    """False for a status that tells a waiting user nothing: a run that is just being taken, without a reason."""
    return record.reason is not None or record.status is not RunStatus.NOT_STARTED


def is_before_running(spec_status: RunStatus) -> bool:
    """True for the statuses in which a run has not begun."""
    return spec_status in (
        RunStatus.NOT_STARTED, RunStatus.STARTING, RunStatus.PROVISIONING, RunStatus.PREPARING, RunStatus.QUEUED,
    )  # fmt: skip


def html_table(rows: "Mapping[str, str]", link: "Optional[str]" = None) -> str:
    """A one-row table for notebooks; everything in it is escaped."""
    from html import escape

    heads = "".join("<th>%s</th>" % escape(name) for name in rows)
    cells = "".join("<td>%s</td>" % escape(str(value)) for value in rows.values())
    if link is not None:
        heads += "<th>Details page</th>"
        cells += '<td><a href="%s" target="_blank" rel="noopener">open</a></td>' % escape(link)
    return '<table style="width:100%%"><tr>%s</tr><tr>%s</tr></table>' % (heads, cells)
