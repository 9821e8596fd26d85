"""The pages: each asks the backend, fills its context and answers with HTML or its JSON twin."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import RedirectResponse, Response

from windlass.errors import UserErrorException, did_you_mean
from windlass.specs._codec import to_wire
from windlass.specs.run import RunRecord
from windlass.specs.status import FINAL, RunStatus
from windlassd.control.filters import metric_filter
from windlassd.server.backend import Backend
from windlassd.server.web import contexts, files, present
from windlassd.server.web.contexts import RunFilters, Shell, run_row, run_url
from windlassd.server.web.render import TWIN, Renderer, json_response
from windlassd.server.web.streams import Streams

PAGE_SIZE = 50
_QUEUE_LIMIT = 200
_LINE_SHOWN = 50
_MOST_POINTS = 4000
_SHORT_IMAGE = len("sha256:") + 12
_MOST_FILES = 500
_LOGS = ("azureml-logs/", "user_logs/")
_ENDED_BADLY = (RunStatus.FAILED, RunStatus.NOT_RESPONDING)


class _AnyPath(PathConvertor):
    """The rest of an address, line ends included: a script may call its files anything."""

    regex = "(?s:.*)"


register_url_convertor("any_path", _AnyPath())


class Pages:
    """The handlers of all pages. ``clock`` gives Unix seconds."""

    def __init__(
        self, backend: Backend, renderer: Renderer, streams: Streams, clock: Callable[[], float] = time.time
    ) -> None:
        self._backend = backend
        self._renderer = renderer
        self._streams = streams
        self._clock = clock

    def router(self) -> APIRouter:
        """Routes of all pages and their twins."""
        router = APIRouter()
        add = router.add_api_route
        add("/", lambda: RedirectResponse("/runs", 303), methods=["GET"])
        add("/runs/stream", self.runs_stream, methods=["GET"])
        for path, handler in (
            ("/runs", self.runs),
            ("/runs/{run_id}", self.run),
            ("/experiments", self.experiments),
            ("/models", self.models),
            ("/data", self.data),
            ("/queue", self.queue),
        ):
            add(path + TWIN, handler, methods=["GET"])
            add(path, handler, methods=["GET"])
        add("/runs/{run_id}/metrics", self.metrics, methods=["GET"])
        add("/runs/{run_id}/stream", self.run_stream, methods=["GET"])
        add("/runs/{run_id}/files/{path:any_path}", self.file, methods=["GET"])
        add("/runs/{run_id}/cancel", self.cancel, methods=["POST"])
        return router

    def runs(
        self,
        request: Request,
        experiment: str | None = None,
        status: Annotated[Sequence[str], Query()] = (),
        tag: Annotated[Sequence[str], Query()] = (),
        metric: Annotated[Sequence[str], Query()] = (),
        before: str | None = None,
    ) -> Response:
        """Runs, newest first."""
        filters = _filters(experiment, status, tag, metric)
        found, more = self._backend.list_runs(
            experiment=filters.experiment,
            statuses=filters.statuses,
            tags=filters.tags,
            metrics=filters.metrics,
            limit=PAGE_SIZE,
            before=before or None,
        )
        here = f"/runs?{filters.query}" if filters.query else "/runs"
        join = "&" if filters.query else "?"
        page = contexts.RunsPage(
            shell=self._shell(request, "Runs", "runs"),
            filters=filters,
            experiments=tuple(sorted(str(e["name"]) for e in self._backend.experiments())),
            runs=tuple(run_row(run) for run in found),
            before=before or None,
            older=f"{here}{join}{_encoded('before', found[-1].id)}" if more and found else None,
            newest=here if before else None,
            stream="/runs/stream" + (f"?{_encoded('experiment', filters.experiment)}" if filters.experiment else ""),
        )
        return self._renderer.answer(request, "runs.html", page)

    def run(self, request: Request, run_id: str) -> Response:
        """One run."""
        run = self._backend.get_run(run_id)
        entries = self._backend.files(run.id)
        others = [entry for entry in entries if not entry["path"].startswith(_LOGS)]
        shown = tuple(_file_row(run.id, entry) for entry in others[:_MOST_FILES])
        row = run_row(run)
        page = contexts.RunPage(
            shell=self._shell(request, f"{row.name} · {present.words(run.status)}", "runs"),
            run=row,
            script=run.spec.script,
            arguments=run.spec.arguments,
            error=_how_it_ended(run),
            cancelable=run.status not in FINAL and run.status is not RunStatus.CANCEL_REQUESTED,
            phases=contexts.phases(run, self._clock()),
            facts=_facts(run),
            environment=_environment(run),
            packages=(*run.spec.environment.conda_packages, *run.spec.environment.pip_packages),
            variables=contexts.pairs(run.spec.environment_variables),
            properties=contexts.pairs(run.properties),
            snapshot_id=run.spec.snapshot_id,
            git=contexts.pairs(run.spec.git),
            lost_points=run.lost_points,
            parent=contexts.Link(run.parent_id, run_url(run.parent_id)) if run.parent_id else None,
            children=tuple(run_row(child) for child in self._backend.list_runs(parent=run.id, limit=PAGE_SIZE)[0]),
            series=tuple(contexts.series_row(s) for s in self._backend.summaries(run.id)),
            logs=tuple(_file_row(run.id, entry) for entry in entries if entry["path"].startswith(_LOGS)),
            files=shown,
            files_left=len(others) - len(shown),
            stream=run_url(run.id, "stream"),
            metrics=run_url(run.id, "metrics"),
            cancel=run_url(run.id, "cancel"),
        )
        return self._renderer.answer(request, "run.html", page)

    def experiments(self, request: Request) -> Response:
        """All experiments, the one with the newest run first."""
        known = sorted(self._backend.experiments(), key=lambda e: e["last"] or e["created"], reverse=True)
        page = contexts.ExperimentsPage(
            shell=self._shell(request, "Experiments", "experiments"),
            experiments=tuple(
                contexts.ExperimentRow(
                    name=e["name"],
                    url=f"/runs?{_encoded('experiment', e['name'])}",
                    runs=e["runs"],
                    created=e["created"],
                    last=e["last"],
                )
                for e in known
            ),
        )
        return self._renderer.answer(request, "experiments.html", page)

    def models(self, request: Request) -> Response:
        """All model versions."""
        page = contexts.ModelsPage(
            shell=self._shell(request, "Models", "models"),
            models=tuple(contexts.model_row(model) for model in self._backend.models()),
        )
        return self._renderer.answer(request, "models.html", page)

    def data(self, request: Request) -> Response:
        """Datastores and datasets."""
        page = contexts.DataPage(
            shell=self._shell(request, "Data", "data"),
            datastores=tuple(
                contexts.DatastoreRow(name=s["name"], path=s["path"], default=s["default"])
                for s in self._backend.datastores()
            ),
            datasets=tuple(contexts.dataset_row(dataset) for dataset in self._backend.datasets()),
        )
        return self._renderer.answer(request, "data.html", page)

    def queue(self, request: Request) -> Response:
        """Compute targets and who waits for them."""
        statuses = tuple(status for status in RunStatus if not status.final and status is not RunStatus.QUEUED)
        runs, more = self._backend.list_runs(statuses=statuses, limit=_QUEUE_LIMIT, include_children=True)
        page = contexts.QueuePage(
            shell=self._shell(request, "Queue", "queue"),
            clusters=tuple(self._cluster(compute, runs) for compute in self._backend.computes()),
            more=more,
            stream="/runs/stream",
        )
        return self._renderer.answer(request, "queue.html", page)

    def _cluster(self, compute: Mapping[str, Any], under_way: Sequence[RunRecord]) -> contexts.ClusterRow:
        name = to_wire(compute)["spec"]["name"]
        nodes, queue = self._backend.nodes(name), self._backend.queue(name, _LINE_SHOWN)
        line = self._records(entry["run_id"] for entry in queue["waiting"])
        known = {run.id for run in under_way}
        shown = (node["run_id"] for node in nodes[: contexts.MOST_NODES] if node.get("run_id"))
        starting = self._records(run_id for run_id in dict.fromkeys(shown) if run_id not in known)
        return contexts.cluster_row(compute, nodes, line, queue["length"], [*starting, *under_way])

    def _records(self, run_ids: Iterable[str]) -> Sequence[RunRecord]:
        found = []
        for run_id in run_ids:
            with suppress(UserErrorException):  # deleted in this moment
                found.append(self._backend.get_run(run_id))
        return found

    def metrics(self, run_id: str, name: str | None = None, points: int = 1000) -> Response:
        """Points of a run's metrics, thinned out for a chart."""
        if not 2 <= points <= _MOST_POINTS:
            raise UserErrorException(f"points is {points}; it must be between 2 and {_MOST_POINTS}.")
        return json_response({"metrics": self._backend.metrics(run_id, name, points)})

    def file(self, run_id: str, path: str, view: bool = False) -> Response:
        """A kept file."""
        return files.send_file(self._backend.locate(run_id, path), path, view=view)

    async def cancel(self, run_id: str) -> Response:
        """Ask for a run to end, and go back to its page."""
        run = await self._backend.cancel(run_id)
        return RedirectResponse(run_url(run.id), 303)

    async def run_stream(self, run_id: str, offsets: str = "{}") -> Response:
        """Everything that happens to one run, its log text from ``offsets`` on."""
        seen = _offsets(offsets)
        run = await run_in_threadpool(self._backend.get_run, run_id)
        return self._streams.response(self._backend.run_stream(run.id, logs=True, offsets=seen))

    async def runs_stream(self, experiment: str | None = None) -> Response:
        """Each change of any run."""
        return self._streams.response(self._backend.runs_stream(experiment or None))

    def _shell(self, request: Request, title: str, section: str) -> Shell:
        path = request.url.path.removesuffix(TWIN)
        query = f"?{request.url.query}" if request.url.query else ""
        return Shell(
            title=title,
            section=section,
            workspace=str(self._backend.workspace()["name"]),
            now=self._clock(),
            twin=path + TWIN + query,
        )


def _filters(
    experiment: str | None, statuses: Sequence[str], tags: Sequence[str], metrics: Sequence[str]
) -> RunFilters:
    known = {status.value: status for status in RunStatus}
    for name in statuses:
        if name and name not in known:
            raise UserErrorException(
                f"{name!r} is no status of a run; there are {', '.join(known)}.{did_you_mean(name, known)}",
                error_code="bad_filter",
            )
    split = [tag.strip().partition("=") for tag in tags if tag.strip()]
    return RunFilters(
        experiment=experiment or None,
        statuses=tuple(known[name] for name in statuses if name),
        tags=tuple((key.strip(), value.strip() if sign else None) for key, sign, value in split),
        metrics=tuple(metric_filter(metric) for metric in metrics if metric.strip()),
    )


def _encoded(key: str, value: str) -> str:
    return urlencode({key: value})


def _offsets(text: str) -> Mapping[str, int]:
    try:
        values = json.loads(text)
    except ValueError as e:
        raise _bad_offsets(text) from e
    if not isinstance(values, dict) or not all(type(v) is int and v >= 0 for v in values.values()):
        raise _bad_offsets(text)
    return values


def _bad_offsets(text: str) -> UserErrorException:
    return UserErrorException(
        f"offsets is {text[:80]!r}; it must be a JSON object of log file names and bytes already seen.",
        error_code="bad_offsets",
    )


def _file_row(run_id: str, entry: Mapping[str, Any]) -> contexts.FileRow:
    path = str(entry["path"])
    url = run_url(run_id, "files", path)
    return contexts.FileRow(
        path=path,
        size=int(entry["size"]),
        sha256=entry.get("sha256"),
        url=url,
        view=f"{url}?view=1" if files.may_show(path) else None,
    )


def _how_it_ended(run: RunRecord) -> str | None:
    if run.status not in _ENDED_BADLY:
        return None
    if run.exit_signal:
        return f"ended by {run.exit_signal}"
    return None if run.exit_code is None else f"exit code {run.exit_code}"


def _facts(run: RunRecord) -> contexts.Pairs:
    spec = run.spec
    processes = spec.node_count * spec.process_count_per_node
    gpus: Mapping[str, Sequence[int]] = run.environment.get("gpus") or {}
    facts = [
        ("Target", spec.target),
        ("Nodes", _nodes(run) or str(spec.node_count)),
        ("GPUs", "; ".join(f"{', '.join(map(str, held))} on {node}" for node, held in gpus.items())),
        ("Attempt", f"{run.attempt} of {spec.max_retries + 1}" if spec.max_retries else ""),
        ("Priority", str(spec.priority or "")),
        ("Processes", str(processes) if processes > 1 else ""),
        ("Framework", spec.framework if spec.framework != "Python" else ""),
        ("Communicator", spec.communicator if spec.communicator != "None" else ""),
        ("Time limit", present.duration(spec.max_run_duration_s) if spec.max_run_duration_s else ""),
        ("Submitted by", spec.submitted_by or ""),
        ("Source folder", spec.source_directory or ""),
    ]
    return tuple((name, value) for name, value in facts if value)


def _nodes(run: RunRecord) -> str:
    """Its nodes; of several what each is at."""
    if len(run.parts) < 2:
        return ", ".join(run.nodes)
    return ", ".join(f"{part['node']} ({_of_part(part)})" for part in run.parts)


def _of_part(part: Mapping[str, Any]) -> str:
    outcome = part.get("outcome") or {}
    came = f"exit code {outcome['exit_code']}" if outcome.get("exit_code") is not None else outcome.get("reason_code")
    return f"{part['status']}, {came}" if came else str(part["status"])


def _environment(run: RunRecord) -> contexts.Pairs:
    asked, chosen = run.spec.environment, run.environment
    cached = chosen.get("cached")
    ready = "" if cached is None else "from the cache" if cached else "built for this run"
    if ready and chosen.get("seconds") is not None:
        ready += f", {present.duration(chosen['seconds'])}"
    if chosen.get("platform"):
        ready = "resolved by the server, made by each node" if chosen.get("key") else "resolved and made by each node"
    facts = [
        ("Name", asked.name or ""),
        ("Python", str(chosen.get("python_version") or asked.python_version or "")),
        ("Builder", str(chosen.get("builder") or "")),
        ("Ready", ready),
        ("Platform", str(chosen.get("platform") or "")),
        *_on_nodes(run),
        ("Interpreter", asked.interpreter or ""),
        ("Framework", " ".join(filter(None, (asked.framework, asked.framework_version)))),
        ("Channels", ", ".join(asked.channels)),
        *_container(run),
        ("Key", str(chosen.get("key") or "")),
        ("Notes", " ".join(map(str, chosen.get("notes") or ()))),
    ]
    return tuple((name, value) for name, value in facts if value)


def _on_nodes(run: RunRecord) -> contexts.Pairs:
    """What each node elsewhere made of it."""
    told = [(str(part.get("node", "")), part.get("environment") or {}) for part in run.parts]
    return tuple(
        (f"On {node}", f"Python {made.get('python_version', '')}, {_readiness(made)}") for node, made in told if made
    )


def _readiness(made: Mapping[str, Any]) -> str:
    took = present.duration(float(made.get("seconds") or 0.0))
    return f"found in {took}" if made.get("cached") else f"made in {took}"


def _container(run: RunRecord) -> contexts.Pairs:
    """The image that was asked for, the one that was made of it, and how the job runs in it."""
    asked, options = run.spec.environment.container, run.spec.container
    if asked is None:
        return ()
    image = "/".join(filter(None, (asked.registry, asked.image))) if asked.image else "made by a Dockerfile"
    limits = [
        ("Memory limit", _binary(options.memory_bytes)),
        ("Processor limit", f"{options.cpus:g} cores" if options.cpus else ""),
        ("Shared memory", _binary(options.shm_bytes)),
        ("GPUs", options.gpus or ""),
        ("Volumes", ", ".join(options.volumes)),
        ("Network", options.network or ""),
    ]
    return (("Base image", image), ("Image", str(run.environment.get("image") or "")[:_SHORT_IMAGE]), *limits)


def _binary(count: int | None) -> str:
    """A limit in the units that people set it in."""
    if count is None:
        return ""
    return f"{count / 2**30:.4g} GiB" if count >= 2**30 else f"{count / 2**20:.4g} MiB"
