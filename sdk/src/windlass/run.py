"""``Run``: one execution of a script, seen from outside or from the script itself; v1's ``azureml.core.Run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional

from windlass import settings
from windlass._files import RunFiles
from windlass._metrics_log import metrics_log
from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options, refuse_unknown
from windlass._run_logging import RunLogging
from windlass.errors import ActivityFailedException, RunEnvironmentException, UserErrorException

if TYPE_CHECKING:
    from windlass._details import Details
    from windlass._transport.client import Client
    from windlass.experiment import Experiment
    from windlass.model import Model
    from windlass.specs.run import RunRecord
    from windlass.workspace import Workspace

_PAGE = 100
_NO_CHILDREN = "Submit a run for each."
_SCRIPT_RUN = "azureml.scriptrun"


class Run(RunLogging, RunFiles):
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
        for record in list_records(experiment.workspace._client, experiment.name, type, tags, properties, status):
            yield Run._of(experiment, record)

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
    def type(self) -> str:
        """v1's type of a submitted script."""
        return _SCRIPT_RUN

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
                "The run %s is %s: %s" % (self._id, record.status.value, error["message"]), details["error"]
            )
        return details

    def cancel(self) -> None:
        """Ask the run to end; a run that is over stays as it is."""
        self._client.post("/v1/runs/%s/cancel" % self._id)

    def complete(self) -> None:
        """Return when all that this process logged is in the history. The run itself ends with its script."""
        self.flush()

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
            UserErrorException: one has another value already.
        """
        if not isinstance(properties, dict):
            raise UserErrorException(
                "properties must be a dictionary such as {'author': 'me'}, not %r." % (properties,)
            )
        self._change(properties={str(key): str(value) for key, value in properties.items()})

    def _change(self, **changes: Any) -> None:
        self._client.patch("/v1/runs/%s" % self._id, changes)

    def get_snapshot_id(self) -> str:
        """Id of the snapshot it ran."""
        return self._record().spec.snapshot_id

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

        Raises:
            ModelPathNotFoundException: the run keeps nothing at ``model_path``.
        """
        from windlass.model import register_from_run

        refuse_unknown("Run.register_model", kwargs)
        refuse_options("Run.register_model", {
            "datasets": (datasets, None, "Name them in tags."),
            "sample_input_dataset": (sample_input_dataset, None, "Name it in tags."),
            "sample_output_dataset": (sample_output_dataset, None, "Name it in tags."),
            "resource_configuration": (resource_configuration, None, "Leave it out."),
        })  # fmt: skip
        return register_from_run(
            self._home, self._id, name=model_name, path=model_path or model_name, tags=tags, properties=properties,
            framework=model_framework, framework_version=model_framework_version, description=description,
        )  # fmt: skip

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, exit_type: Any, value: Any, traceback: Any) -> None:
        self.complete()

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

    description = AbsentProperty("Set display_name, or a tag.")
    add_type_provider = AbsentMethod("All runs are script runs.")
    child_run = AbsentMethod(_NO_CHILDREN)
    clean = AbsentMethod("Runs clean up after themselves.")
    create_children = AbsentMethod(_NO_CHILDREN)
    fail = AbsentMethod("Exit with a code other than 0, or raise.")
    get_children = AbsentMethod(_NO_CHILDREN)
    get_detailed_status = AbsentMethod("Use get_details(): statusReason says why it is where it is.")
    get_docs_url = AbsentMethod("See the documentation of Windlass.")
    identity = AbsentProperty("Use id.")
    get_environment = AbsentMethod("See get_details()['runDefinition']['environment'].")
    get_secret = AbsentMethod("Pass secrets in environment_variables.")
    get_secrets = AbsentMethod("Pass secrets in environment_variables.")
    list_by_compute = AbsentMethod("Use AmlCompute.get_active_runs().")
    restore_snapshot = AbsentMethod("The run's page shows its snapshot.")
    start = AbsentMethod("A run starts by itself.")
    submit_child = AbsentMethod(_NO_CHILDREN)
    take_snapshot = AbsentMethod("submit takes one of source_directory.")


def get_run(experiment: "Experiment", run_id: str, rehydrate_runs: bool = True, clean_up: bool = True) -> Run:
    """The run of that id; v1's ``azureml.core.get_run``."""
    return Run(experiment, run_id)


def list_records(
    client: "Client", experiment: "Optional[str]" = None, type: "Optional[str]" = None, tags: Any = None,
    properties: Any = None, status: "Optional[str]" = None,
) -> "Iterator[RunRecord]":  # fmt: skip
    """Yield records of runs, newest first, page by page.

    ``tags`` and ``properties`` are a key, or a dictionary of keys and values that all must hold.
    """
    from windlass.specs.run import RunRecord

    if type not in (None, _SCRIPT_RUN):
        return
    tag = ["%s=%s" % item if item[1] is not None else item[0] for item in _filter("tags", tags)]
    wanted = _filter("properties", properties)
    before: "Optional[str]" = None
    while True:
        answer = client.get(
            "/v1/runs",
            experiment=experiment,
            status=_checked_status(status),
            tag=tag or None,
            limit=_PAGE,
            before=before,
        )
        for data in answer["runs"]:
            record = RunRecord.from_wire(data)
            before = record.id
            if all(record.properties.get(key) == value or (value is None and key in record.properties)
                   for key, value in wanted):  # fmt: skip
                yield record
        if not answer["more"] or not answer["runs"]:
            return


def _fetch(client: "Client", run_id: str) -> "RunRecord":
    from windlass._transport.client import quote
    from windlass.specs.run import RunRecord

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
