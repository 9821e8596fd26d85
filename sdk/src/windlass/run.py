"""``Run``: one execution of a script, seen from outside or from the script itself; v1's ``azureml.core.Run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional

from windlass import settings
from windlass._files import RunFiles
from windlass._metrics_log import metrics_log
from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options, refuse_unknown
from windlass._run_children import RunChildren
from windlass._run_life import RunLife
from windlass._run_snapshots import RunSnapshots
from windlass.errors import ActivityFailedException, RunEnvironmentException, UserErrorException
from windlass.specs.run import JOB, RunRecord

if TYPE_CHECKING:
    from windlass._details import Details
    from windlass._inputs import InputDatasets, OutputDatasets
    from windlass._transport.client import Client
    from windlass.experiment import Experiment
    from windlass.model import Model
    from windlass.workspace import Workspace

_PAGE = 100
_SCRIPT_RUN = "azureml.scriptrun"


class Run(RunFiles, RunLife, RunChildren, RunSnapshots):
    """A run. Everything asked of it is read afresh from the server; nothing asked for is cached.

    Args:
        experiment: The experiment it belongs to.
        run_id: Its id.
        outputs: Not offered.
    """

    def __init__(self, experiment: "Experiment", run_id: str, outputs: Any = None, **kwargs: Any) -> None:
        refuse_unknown("Run", kwargs)
        refuse_options("Run", {"outputs": (outputs, None, "Write to ./outputs.")})
        self._begin(experiment.workspace, run_id, experiment)
        record = self._record()
        if record.experiment != experiment.name:
            raise UserErrorException(
                "The run %s belongs to the experiment %r, not to %r." % (run_id, record.experiment, experiment.name)
            )

    def _begin(self, workspace: "Optional[Workspace]", run_id: str, experiment: "Optional[Experiment]" = None) -> None:
        self._workspace = workspace
        self._id = run_id
        self._experiment = experiment
        self._context_dir: "Optional[str]" = None

    @classmethod
    def _of(cls, experiment: "Experiment", record: "RunRecord") -> "Run":
        run = cls.__new__(cls)
        run._begin(experiment.workspace, record.id, experiment)
        return run

    @classmethod
    def get_context(cls, allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any) -> Any:
        """The run this script is part of; outside any run, one that prints what is logged.

        Nothing is asked of the network.

        Args:
            allow_offline: False raises outside a run instead.
            used_for_context_manager: v1's own; it changes nothing.

        Raises:
            RunEnvironmentException: outside a run, when ``allow_offline`` is False.
        """
        refuse_unknown("Run.get_context", kwargs)
        job = settings.job_context()
        if job is not None:
            run = cls.__new__(cls)
            run._begin(None, job.run_id)
            run._context_dir = job.workspace_dir
            run._metrics = metrics_log(job.spool_dir)
            return run
        if not allow_offline:
            raise RunEnvironmentException(
                "This process is not part of a run. Submit the script with experiment.submit, or call "
                "Run.get_context() to log to the screen."
            )
        from windlass._offline_run import _OfflineRun

        return _OfflineRun()

    @classmethod
    def get_submitted_run(cls, **kwargs: Any) -> Any:
        """v1's older name of ``get_context``."""
        return cls.get_context(**kwargs)

    @staticmethod
    def get(workspace: "Workspace", run_id: str) -> "Run":
        """The run of that id.

        Raises:
            UserErrorException: there is none.
        """
        from windlass.experiment import Experiment

        record = _fetch(workspace._client, run_id)
        return Run._of(Experiment(workspace, record.experiment), record)

    @staticmethod
    def list(
        experiment: "Experiment", type: "Optional[str]" = None, tags: Any = None, properties: Any = None,
        status: "Optional[str]" = None, include_children: bool = False,
    ) -> "Iterator[Run]":  # fmt: skip
        """Yield an experiment's runs, newest first; see ``Experiment.get_runs``. ``status`` is one of v1's statuses."""
        client = experiment.workspace._client
        for record in list_records(client, experiment.name, type, tags, properties, status, include_children):
            yield Run._of(experiment, record)

    @staticmethod
    def list_by_compute(
        compute: Any, type: "Optional[str]" = None, tags: Any = None, properties: Any = None,
        status: "Optional[str]" = None,
    ) -> "Iterator[Run]":  # fmt: skip
        """Yield the runs that were submitted to a compute target, children too, newest first; see ``list``."""
        from windlass.experiment import Experiment

        workspace = compute.workspace
        for record in list_records(workspace._client, None, type, tags, properties, status, include_children=True):
            if record.spec.target == compute.name and record.spec.kind == JOB:
                yield Run._of(Experiment(workspace, record.experiment), record)

    @property
    def _client(self) -> "Client":
        return self._home._client

    @property
    def _home(self) -> "Workspace":
        if self._workspace is None:
            from windlass.workspace import Workspace

            assert self._context_dir is not None
            self._workspace = Workspace._at(self._context_dir)
        return self._workspace

    def _record(self) -> "RunRecord":
        return _fetch(self._client, self._id)

    @property
    def id(self) -> str:
        """The run's id."""
        return self._id

    @property
    def experiment(self) -> "Experiment":
        """The experiment it belongs to."""
        if self._experiment is None:
            from windlass.experiment import Experiment

            self._experiment = Experiment(self._home, self._record().experiment)
        return self._experiment

    @property
    def number(self) -> int:
        """Its place in the experiment, counted from 1."""
        return self._record().number

    @property
    def type(self) -> "Optional[str]":
        """v1's type: ``azureml.scriptrun`` for a submitted script, None for a run that a process logs into."""
        if self._context_dir is not None:
            return _SCRIPT_RUN
        return _type_of(self._record())

    @property
    def name(self) -> "Optional[str]":
        """v1's older name of ``display_name``."""
        return self.display_name

    @property
    def display_name(self) -> "Optional[str]":
        """A name for people; it can be set."""
        return self._record().display_name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._change(display_name=str(value))

    @property
    def description(self) -> "Optional[str]":
        """Text for people; it can be set."""
        return self._record().description

    @description.setter
    def description(self, value: str) -> None:
        self._change(description=str(value))

    @property
    def parent(self) -> "Optional[Run]":
        """The run it is a child of; None when it is none's."""
        parent_id = self._record().parent_id
        return Run.get(self._home, parent_id) if parent_id else None

    @property
    def status(self) -> str:
        """v1's status now."""
        return self.get_status()

    def get_status(self) -> str:
        """v1's status now, such as ``Running``."""
        return self._record().status.value

    def get_details(self) -> "Details":
        """All that is known of the run, under v1's keys, which also read as attributes."""
        from windlass._details import run_details

        return run_details(self._record(), self._home._web, self.get_file_names())

    def get_details_with_logs(self) -> "Details":
        """As ``get_details``, with the text of each log file in ``logFiles``."""
        from windlass._transport.client import quote

        details = self.get_details()
        for name in details["logFiles"]:
            answer = self._client.open("GET", quote("/v1/runs/%s/files/%s" % (self._id, name)))
            details["logFiles"][name] = answer.read().decode("utf-8", "replace")
        return details

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> "Details":
        """Return ``get_details()`` once the run is over. Ctrl-C stops the waiting, not the run.

        Args:
            show_output: Print the logs as they grow.
            wait_post_processing: Says nothing: a run is over only when everything is kept.
            raise_on_error: Raise when the run failed or was canceled.

        Raises:
            ActivityFailedException: it failed or was canceled; the message says why.
        """
        from windlass._streaming import follow

        record = follow(self._client, self._id, self.get_portal_url(), show_output)
        details = self.get_details()
        if raise_on_error and details["error"] is not None:
            error = details["error"]["error"]
            raise ActivityFailedException(
                details["error"],
                exception_message="The run %s is %s: %s" % (self._id, record.status.value, error["message"]),
            )
        return details

    @property
    def tags(self) -> "Dict[str, str]":
        """Tags by key."""
        return dict(self._record().tags)

    def get_tags(self) -> "Dict[str, str]":
        """Tags by key."""
        return self.tags

    def tag(self, key: str, value: "Optional[str]" = None) -> None:
        """Set a tag; without a value it is just there."""
        self.set_tags({key: value})

    def set_tags(self, tags: "Mapping[str, Any]") -> None:
        """Set several tags; others stay."""
        from windlass._submit import checked_tags

        self._change(tags=checked_tags(tags))

    def remove_tags(self, tags: Any) -> None:
        """Take away the tags of these keys (a list, or one key)."""
        self._change(remove_tags=[tags] if isinstance(tags, str) else [str(key) for key in tags])

    @property
    def properties(self) -> "Dict[str, str]":
        """Properties by key, with those v1 sets by itself."""
        from windlass._details import properties

        return properties(self._record())

    def get_properties(self) -> "Dict[str, str]":
        """Properties by key."""
        return self.properties

    def add_properties(self, properties: "Mapping[str, Any]") -> None:
        """Add properties, which can never be changed.

        Raises:
            UserErrorException: one is there already.
        """
        if not isinstance(properties, dict):
            raise UserErrorException(
                "properties must be a dictionary such as {'author': 'me'}, not %r." % (properties,)
            )
        held = self._record().properties
        for key in properties:
            if str(key) in held:
                raise UserErrorException(
                    "The property %r of %s is %r already, and properties never change. Use a tag, or another name."
                    % (key, self._id, held[str(key)])
                )
        self._change(properties={str(key): str(value) for key, value in properties.items()})

    def _change(self, **changes: Any) -> None:
        self._client.patch("/v1/runs/%s" % self._id, changes)

    def get_portal_url(self) -> str:
        """Address of its web page."""
        return "%s/runs/%s" % (self._home._web, self._id)

    @property
    def portal_url(self) -> str:
        """Address of its web page."""
        return self.get_portal_url()

    def register_model(
        self, model_name: str, model_path: "Optional[str]" = None, tags: "Optional[Dict[str, str]]" = None,
        properties: "Optional[Dict[str, str]]" = None, model_framework: "Optional[str]" = None,
        model_framework_version: "Optional[str]" = None, description: "Optional[str]" = None, datasets: Any = None,
        sample_input_dataset: Any = None, sample_output_dataset: Any = None, resource_configuration: Any = None,
        **kwargs: Any,
    ) -> "Model":  # fmt: skip
        """A new version of a model, made of a kept file or folder of this run.

        Args:
            model_name: Versions count up under it.
            model_path: A kept file or folder such as ``outputs/model.pkl``; default: ``model_name``.
            tags: Of the model.
            properties: Of the model; they cannot be changed.
            model_framework: One of ``Model.Framework``.
            model_framework_version: Its version.
            description: Text for people.
            datasets: (purpose, dataset) pairs it was made with.
            sample_input_dataset: A dataset of inputs.
            sample_output_dataset: A dataset of outputs.
            resource_configuration: What it needs to be served.

        Raises:
            ModelPathNotFoundException: the run keeps nothing at ``model_path``.
        """
        from windlass.model import register_from_run

        refuse_unknown("Run.register_model", kwargs)
        return register_from_run(
            self._home, self._id, model_path or model_name, name=model_name, tags=tags, properties=properties,
            description=description, datasets=datasets, model_framework=model_framework,
            model_framework_version=model_framework_version, sample_input_dataset=sample_input_dataset,
            sample_output_dataset=sample_output_dataset, resource_configuration=resource_configuration,
        )  # fmt: skip

    @property
    def input_datasets(self) -> "InputDatasets":
        """Its dataset inputs by name: in the job the path of each, or the dataset itself when it is read directly."""
        from windlass._inputs import InputDatasets

        if self._context_dir is not None:
            return InputDatasets(self._home)
        return InputDatasets._of(self._home, self._record().spec.data)

    @property
    def output_datasets(self) -> "OutputDatasets":
        """In the job: the paths of its dataset outputs by name."""
        from windlass._inputs import OutputDatasets

        return OutputDatasets(self._home)

    def __enter__(self) -> "Run":
        return self

    def __repr__(self) -> str:
        return "Run(id=%r)" % self._id

    def __str__(self) -> str:
        record = self._record()
        return "Run(experiment=%r, id=%r, status=%r)" % (record.experiment, self._id, record.status.value)

    def _repr_html_(self) -> str:
        from windlass._details import html_table

        record = self._record()
        rows = {"Experiment": record.experiment, "Id": self._id, "Status": record.status.value}
        return html_table(rows, self.get_portal_url())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    add_type_provider = AbsentMethod("All runs are script runs.")
    clean = AbsentMethod("Runs clean up after themselves.")
    get_docs_url = AbsentMethod("See the documentation of Windlass.")
    identity = AbsentProperty("Use id.")
    get_secret = AbsentMethod("Pass secrets in environment_variables.")
    get_secrets = AbsentMethod("Pass secrets in environment_variables.")


def get_run(experiment: "Experiment", run_id: str, rehydrate_runs: bool = True, clean_up: bool = True) -> Run:
    """The run of that id; v1's ``azureml.core.get_run``."""
    return Run(experiment, run_id)


class Fits:
    """Which records a listing is about.

    ``tags`` and ``properties`` are a key, or a dictionary of keys and values that all must hold.
    """

    def __init__(
        self, type: "Optional[str]" = None, tags: Any = None, properties: Any = None, status: "Optional[str]" = None
    ) -> None:
        self._type = type
        self.tags = _filter("tags", tags)
        self._properties = _filter("properties", properties)
        self.status = _checked_status(status)

    def __call__(self, record: "RunRecord") -> bool:
        """True for a record that fits."""
        return (
            self._type in (None, _type_of(record))
            and self.status in (None, record.status.value)
            and all(_holds(record.tags, *pair) for pair in self.tags)
            and all(_holds(record.properties, *pair) for pair in self._properties)
        )


def list_records(
    client: "Client", experiment: "Optional[str]" = None, type: "Optional[str]" = None, tags: Any = None,
    properties: Any = None, status: "Optional[str]" = None, include_children: bool = False,
    parent: "Optional[str]" = None,
) -> "Iterator[RunRecord]":  # fmt: skip
    """Yield records of runs that fit (see ``Fits``), newest first, page by page; with ``parent``, its children."""
    fits = Fits(type, tags, properties, status)
    asked = {
        "experiment": experiment, "status": fits.status, "limit": _PAGE, "parent": parent,
        "tag": ["%s=%s" % pair if pair[1] is not None else pair[0] for pair in fits.tags] or None,
        "children": "1" if include_children else None,
    }  # fmt: skip
    before: "Optional[str]" = None
    while True:
        answer = client.get("/v1/runs", before=before, **asked)
        for data in answer["runs"]:
            record = RunRecord.from_wire(data)
            before = record.id
            if fits(record):
                yield record
        if not answer["more"] or not answer["runs"]:
            return


def _type_of(record: "RunRecord") -> "Optional[str]":
    return _SCRIPT_RUN if record.spec.kind == JOB else None


def _holds(held: "Mapping[str, str]", key: str, value: "Optional[str]") -> bool:
    return key in held and value in (None, held[key])


def _fetch(client: "Client", run_id: str) -> "RunRecord":
    from windlass._transport.client import quote

    if not isinstance(run_id, str) or not run_id or "/" in run_id:
        raise UserErrorException("%r is no run id." % (run_id,))
    return RunRecord.from_wire(client.get("/v1/runs/%s" % quote(run_id)))


def _filter(argument: str, given: Any) -> "List[tuple[str, Optional[str]]]":
    if given is None:
        return []
    if isinstance(given, str):
        return [(given, None)]
    if isinstance(given, dict):
        return [(str(key), None if value is None else str(value)) for key, value in given.items()]
    raise UserErrorException("%s must be a key or a dictionary of keys and values, not %r." % (argument, given))


def _checked_status(status: "Optional[str]") -> "Optional[str]":
    from windlass.errors import did_you_mean
    from windlass.specs.status import RunStatus

    known = [value.value for value in RunStatus]
    if status is None or status in known:
        return status
    near = did_you_mean(str(status), known)
    raise UserErrorException("status=%r is no status of a run.%s There are: %s." % (status, near, ", ".join(known)))
