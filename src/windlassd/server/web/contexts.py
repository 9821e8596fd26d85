"""What each page shows, as frozen data: the template renders it, the JSON twin is it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from windlass.specs._codec import to_wire
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.control.filters import as_text
from windlassd.server.web import present
from windlassd.store.base import DatasetRecord, MetricFilter, ModelRecord, SeriesSummary

Pairs = tuple[tuple[str, str], ...]
MOST_NODES = 100
_OTHER_STATES = ("preparing", "leaving", "unusable")
_HOLDING = (RunStatus.RUNNING, RunStatus.FINALIZING, RunStatus.NOT_RESPONDING, RunStatus.CANCEL_REQUESTED)


@dataclass(frozen=True)
class Shell:
    """What every page has around it."""

    title: str
    section: str
    """The entry of the navigation that is current."""
    workspace: str
    now: float
    twin: str
    """Address of the same page as JSON."""


@dataclass(frozen=True)
class RunRow:
    """A run in a list."""

    id: str
    url: str
    name: str
    experiment: str
    number: int
    status: RunStatus
    reason: str | None
    target: str
    tags: Pairs
    created: float
    started: float | None
    ended: float | None


@dataclass(frozen=True)
class RunFilters:
    """Which runs a list is about; ``query`` is its address's part after the question mark, without paging."""

    experiment: str | None = None
    statuses: tuple[RunStatus, ...] = ()
    tags: tuple[tuple[str, str | None], ...] = ()
    metrics: tuple[MetricFilter, ...] = ()

    @property
    def query(self) -> str:
        """The filters as a query string."""
        pairs = [("experiment", self.experiment)] if self.experiment else []
        pairs += [("status", status.value) for status in self.statuses]
        pairs += [("tag", tag) for tag in self.tag_texts]
        return urlencode(pairs + [("metric", metric) for metric in self.metric_texts])

    @property
    def tag_texts(self) -> tuple[str, ...]:
        """Each tag as ``key`` or ``key=value``."""
        return tuple(key if value is None else f"{key}={value}" for key, value in self.tags)

    @property
    def metric_texts(self) -> tuple[str, ...]:
        """Each filter by a metric as it is written."""
        return tuple(map(as_text, self.metrics))


@dataclass(frozen=True)
class RunsPage:
    """Runs, newest first, a screen at a time."""

    shell: Shell
    filters: RunFilters
    experiments: tuple[str, ...]
    runs: tuple[RunRow, ...]
    before: str | None
    """The run id this screen begins after; None on the newest screen."""
    older: str | None
    newest: str | None
    stream: str


@dataclass(frozen=True)
class Phase:
    """A stretch of a run's life in one status. ``start`` and ``width`` are in thousandths of the whole."""

    status: RunStatus
    began: float
    ended: float | None
    message: str | None
    start: float
    width: float


@dataclass(frozen=True)
class FileRow:
    """A kept file: ``url`` sends it as an attachment, ``view`` shows it when text or a picture can be expected."""

    path: str
    size: int
    sha256: str | None
    url: str
    view: str | None


@dataclass(frozen=True)
class SeriesRow:
    """A metric: a curve when it has several numbers, else its last value."""

    name: str
    kind: str
    """``curve``, ``value`` or ``table``."""
    count: int
    last: Any
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class Link:
    """Something that has a page."""

    name: str
    url: str


@dataclass(frozen=True)
class RunPage:
    """Everything about one run."""

    shell: Shell
    run: RunRow
    script: str
    arguments: tuple[str, ...]
    error: str | None
    """Exit code or signal of a run that failed."""
    cancelable: bool
    phases: tuple[Phase, ...]
    facts: Pairs
    environment: Pairs
    packages: tuple[str, ...]
    variables: Pairs
    properties: Pairs
    snapshot_id: str
    git: Pairs
    lost_points: int
    parent: Link | None
    children: tuple[RunRow, ...]
    """The newest of them."""
    series: tuple[SeriesRow, ...]
    logs: tuple[FileRow, ...]
    files: tuple[FileRow, ...]
    files_left: int
    """How many there are beyond those."""
    stream: str
    metrics: str
    cancel: str


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment in a list."""

    name: str
    url: str
    runs: int
    created: float
    last: float | None


@dataclass(frozen=True)
class ExperimentsPage:
    """All experiments."""

    shell: Shell
    experiments: tuple[ExperimentRow, ...]


@dataclass(frozen=True)
class ModelRow:
    """One version of a model."""

    name: str
    version: int
    run_id: str | None
    run_url: str | None
    created_by: str | None
    snapshot_id: str | None
    environment_key: str | None
    datasets: Pairs
    """Purpose and id of each."""
    framework: str
    size: int
    files: int
    sha256: str
    tags: Pairs
    description: str | None
    created: float


@dataclass(frozen=True)
class ModelsPage:
    """All versions of all models, newest first."""

    shell: Shell
    models: tuple[ModelRow, ...]


@dataclass(frozen=True)
class DatastoreRow:
    """A folder of data."""

    name: str
    path: str
    default: bool


@dataclass(frozen=True)
class DatasetRow:
    """One version of a dataset."""

    name: str
    version: int
    kind: str
    places: tuple[str, ...]
    """Where its files are, as ``datastore: path`` or a path of this machine."""
    tags: Pairs
    description: str | None
    run_id: str | None
    run_url: str | None
    created: float


@dataclass(frozen=True)
class DataPage:
    """Datastores, and all versions of all datasets, newest first."""

    shell: Shell
    datastores: tuple[DatastoreRow, ...]
    datasets: tuple[DatasetRow, ...]


@dataclass(frozen=True)
class NodeRow:
    """A node of a compute target."""

    name: str
    state: str
    address: str | None
    gpus: tuple[int, ...]
    """Indices of those that are handed out there."""
    run: Link | None
    message: str


@dataclass(frozen=True)
class ClusterRow:
    """A compute target with its nodes and who waits for them."""

    name: str
    engine: str
    vm_size: str | None
    priority: str
    max_nodes: int
    current: int
    idle: int
    busy: int
    others: Pairs
    """How many nodes are neither idle nor busy, by state."""
    trouble: str | None
    """What keeps its nodes from being used."""
    nodes: tuple[NodeRow, ...]
    nodes_left: int
    """How many there are beyond those."""
    running: tuple[RunRow, ...]
    preparing: tuple[RunRow, ...]
    """On their way into the line."""
    waiting: tuple[RunRow, ...]
    """In line, the first first."""
    waiting_left: int


@dataclass(frozen=True)
class QueuePage:
    """Compute targets, and the runs that hold or wait for their nodes."""

    shell: Shell
    clusters: tuple[ClusterRow, ...]
    more: bool
    """True when there are more runs under way than are shown."""
    stream: str


@dataclass(frozen=True)
class ErrorPage:
    """What went wrong, in the one shape of all errors: ``{"error": {"code", "message"}}`` in JSON."""

    status: int
    code: str
    title: str
    message: str
    signed_in: bool


@dataclass(frozen=True)
class WelcomePage:
    """After a code was exchanged for a session: where to go."""

    path: str


def run_url(run_id: str, *parts: str) -> str:
    """The address of a run's page, or of something below it."""
    return "/".join(["/runs", quote(run_id, safe=""), *(quote(part) for part in parts)])


def run_row(run: RunRecord) -> RunRow:
    """A run as lists show it."""
    return RunRow(
        id=run.id,
        url=run_url(run.id),
        name=run.display_name or f"{run.experiment} {run.number}",
        experiment=run.experiment,
        number=run.number,
        status=run.status,
        reason=run.reason.message if run.reason else None,
        target=run.spec.target,
        tags=pairs(run.tags),
        created=run.created,
        started=run.started,
        ended=run.ended,
    )


def phases(run: RunRecord, now: float) -> tuple[Phase, ...]:
    """The stretches between the changes of a run's status; a final status is the end of the last, not a stretch."""
    changes: list[Mapping[str, Any]] = []
    for entry in run.history:
        if changes and changes[-1]["status"] == entry["status"]:
            changes[-1] = {**entry, "time": changes[-1]["time"]}
        else:
            changes.append(entry)
    if not changes:
        return ()
    first, last = changes[0]["time"], run.ended or max(now, changes[-1]["time"])
    scale = 1000.0 / max(last - first, 1e-6)
    found = []
    for place, entry in enumerate(changes):
        status, began = RunStatus(entry["status"]), entry["time"]
        if status.final:
            continue
        ended = changes[place + 1]["time"] if place + 1 < len(changes) else None
        found.append(
            Phase(
                status=status,
                began=began,
                ended=ended,
                message=(entry.get("reason") or {}).get("message"),
                start=round((began - first) * scale, 2),
                width=round(((ended or last) - began) * scale, 2),
            )
        )
    return tuple(found)


def series_row(summary: SeriesSummary) -> SeriesRow:
    """A metric as the run's page lists it."""
    kind = "table" if summary.type == "json" else "curve" if summary.count > 1 else "value"
    return SeriesRow(
        name=summary.name,
        kind=kind,
        count=summary.count,
        last=present.json_ready(summary.last),
        minimum=present.json_ready(summary.minimum),
        maximum=present.json_ready(summary.maximum),
    )


def dataset_row(dataset: DatasetRecord) -> DatasetRow:
    """A dataset version as the table of datasets shows it."""
    places = [(place.get("datastore"), place["path"]) for place in dataset.definition["places"]]
    return DatasetRow(
        name=dataset.name or "",
        version=dataset.version or 0,
        kind=dataset.kind,
        places=tuple(f"{store}: {path or '/'}" if store else path for store, path in places),
        tags=pairs(dataset.tags),
        description=dataset.description,
        run_id=dataset.run_id,
        run_url=run_url(dataset.run_id) if dataset.run_id else None,
        created=dataset.created,
    )


def model_row(model: ModelRecord) -> ModelRow:
    """A model version as the table of models shows it."""
    return ModelRow(
        name=model.name,
        version=model.version,
        run_id=model.run_id,
        run_url=run_url(model.run_id) if model.run_id else None,
        created_by=model.created_by,
        snapshot_id=model.snapshot_id,
        environment_key=model.environment_key,
        datasets=tuple((str(used["name"]), str(used["id"])) for used in model.datasets),
        framework=" ".join(part for part in (model.framework, model.framework_version) if part),
        size=model.size,
        files=len(model.files),
        sha256=model.sha256,
        tags=pairs(model.tags or {}),
        description=model.description,
        created=model.created,
    )


def cluster_row(
    compute: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    line: Sequence[RunRecord],
    length: int,
    under_way: Sequence[RunRecord],
) -> ClusterRow:
    """A compute target.

    Args:
        compute: Itself, as the wire has it.
        nodes: All of its nodes, as the wire has them.
        line: The first of those who wait, in order.
        length: How many wait in all.
        under_way: Runs of any target that have not ended and are not in line, newest first.
    """
    plain = to_wire(compute)
    spec, capacity = plain["spec"], plain["capacity"]
    mine = [run for run in reversed(under_way) if run.spec.target == spec["name"]]
    return ClusterRow(
        name=spec["name"],
        engine=spec["engine"],
        vm_size=spec.get("vm_size"),
        priority=spec.get("vm_priority", "dedicated"),
        max_nodes=spec["max_nodes"],
        current=capacity["current"],
        idle=capacity["idle"],
        busy=capacity["busy"],
        others=tuple((state, str(capacity[state])) for state in _OTHER_STATES if capacity.get(state)),
        trouble=plain.get("trouble"),
        nodes=tuple(node_row(node) for node in nodes[:MOST_NODES]),
        nodes_left=max(0, len(nodes) - MOST_NODES),
        running=tuple(run_row(run) for run in mine if run.nodes or run.status in _HOLDING),
        preparing=tuple(run_row(run) for run in mine if not run.nodes and run.status not in _HOLDING),
        waiting=tuple(run_row(run) for run in line),
        waiting_left=max(0, length - len(line)),
    )


def node_row(node: Mapping[str, Any]) -> NodeRow:
    """A node as the wire has it."""
    run_id = node.get("run_id")
    return NodeRow(
        name=node["name"],
        state=str(node["status"]),
        address=node.get("address"),
        gpus=tuple(node.get("gpus") or ()),
        run=Link(run_id, run_url(run_id)) if run_id else None,
        message=node.get("message") or "",
    )


def pairs(values: Mapping[str, Any]) -> Pairs:
    """A mapping as sorted pairs of text."""
    return tuple((str(key), str(value)) for key, value in sorted(values.items()))
