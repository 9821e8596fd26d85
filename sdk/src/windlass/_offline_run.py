"""The run outside any run: it prints what is logged and keeps it on this machine, and talks to nobody.

What it keeps lies in ``offline/<id>`` of the home (see ``_offline_folder.py``) until ``windlass.replay_offline_run`` or
``windlass run replay`` brings it into a workspace.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence

from windlass import _artifact_metrics as artifacts
from windlass._files import folder_files, inside, kept_name, no_such_file, open_local, places, target_of
from windlass._metrics import merged
from windlass._metrics_log import metrics_log, plain_cells, plain_columns, plain_value
from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options, refuse_unknown
from windlass._offline_folder import OfflineFolder
from windlass.errors import RunEnvironmentException, UserErrorException

if TYPE_CHECKING:
    from windlass._artifact_metrics import Chart
    from windlass._inputs import InputDatasets, OutputDatasets

_SUBMIT = "It needs a workspace: submit the script with experiment.submit."
_STORE = "Files go to the run's own store."


class _OfflineRun:
    """What ``Run.get_context()`` gives outside any run. It has no ``experiment``: scripts test for that.

    Args:
        parent_logger: v1's own; it changes nothing.
        run_id: Default: ``OfflineRun_`` and a UUID.
    """

    def __init__(self, parent_logger: Any = None, run_id: "Optional[str]" = None, **kwargs: Any) -> None:
        refuse_unknown("_OfflineRun", kwargs)
        if run_id is not None and kept_name(run_id).count("/"):
            raise UserErrorException("run_id=%r cannot be a run's id: it has a slash." % (run_id,))
        self._id = run_id or "OfflineRun_%s" % uuid.uuid4()
        self._folder = OfflineFolder(self._id)
        self._metrics = metrics_log(self._folder.spool)
        self._points: "Dict[str, List[Any]]" = {}
        self._files: "Dict[str, str]" = {}
        self._children: "List[_OfflineRun]" = []
        self._parent: "Optional[_OfflineRun]" = None
        self._kept = False
        self._state: "Dict[str, Any]" = {
            "id": self._id, "status": "Running", "error": None, "display_name": None, "description": None, "tags": {},
            "properties": {}, "parent": None, "created": time.time(), "ended": None, "script": sys.argv[:1],
        }  # fmt: skip

    def _change(self, **changes: Any) -> None:
        self._state.update(changes)
        self._kept = True
        self._folder.write_state(self._state)

    def _keep_state(self) -> None:
        """The run's own file comes with the first thing that it keeps."""
        if not self._kept:
            self._change()

    @property
    def id(self) -> str:
        """``OfflineRun_`` and a UUID."""
        return self._id

    @property
    def name(self) -> "Optional[str]":
        """As ``display_name``."""
        return self.display_name

    @property
    def display_name(self) -> "Optional[str]":
        """A name for people; it can be set."""
        return self._state["display_name"]  # type: ignore[no-any-return]

    @display_name.setter
    def display_name(self, value: "Optional[str]") -> None:
        self._change(display_name=value)

    @property
    def description(self) -> "Optional[str]":
        """Text for people; it can be set."""
        return self._state["description"]  # type: ignore[no-any-return]

    @description.setter
    def description(self, value: "Optional[str]") -> None:
        self._change(description=value)

    @property
    def input_datasets(self) -> "InputDatasets":
        """Empty: nobody submitted it with inputs."""
        from windlass._inputs import InputDatasets

        return InputDatasets(None)

    @property
    def output_datasets(self) -> "OutputDatasets":
        """Empty, as ``input_datasets``."""
        from windlass._inputs import OutputDatasets

        return OutputDatasets(None)

    @property
    def number(self) -> int:
        """Always 1."""
        return 1

    @property
    def type(self) -> str:
        """v1's type of it."""
        return "OfflineRun"

    @property
    def parent(self) -> "Optional[_OfflineRun]":
        """The offline run it is a child of; None when it is none's."""
        return self._parent

    @property
    def status(self) -> str:
        """``Running`` until it is completed, failed or canceled."""
        return str(self._state["status"])

    def get_status(self) -> str:
        """As ``status``."""
        return str(self._state["status"])

    def get_details(self) -> "Dict[str, Any]":
        """What is known, under v1's keys."""
        from windlass._details import Details, iso_time

        return Details(
            runId=self._id, target=None, status=self.status, properties=self.properties, inputDatasets=[],
            outputDatasets=[], runDefinition={}, logFiles={}, startTimeUtc=iso_time(self._state["created"]),
            endTimeUtc=iso_time(self._state["ended"]), submittedBy=None, statusReason=None,
            error=Details(error=Details(self._state["error"])) if self._state["error"] else None,
        )  # fmt: skip

    def get_details_with_logs(self) -> "Dict[str, Any]":
        """As ``get_details``: what a script prints offline is kept nowhere."""
        return self.get_details()

    def get_detailed_status(self) -> "Dict[str, Any]":
        """The status; there is nothing to say about it."""
        return {"status": self.status, "details": None}

    def start(self) -> None:
        """It runs already."""

    def log(self, name: str, value: Any, description: str = "", step: "Optional[int]" = None) -> None:
        """Print and keep one value; types are checked as in a run."""
        number = plain_value(name, value)
        self._metrics.scalar(name, number, description, step)
        self._say("scalar", name, number)

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Print and keep a list."""
        self._keep("list", name, plain_cells(name, value), description)

    def log_row(self, name: str, description: "Optional[str]" = None, **kwargs: Any) -> None:
        """Print and keep a row."""
        self._keep("row", name, plain_columns(name, kwargs), description)

    def log_table(self, name: str, value: "Mapping[str, Any]", description: str = "") -> None:
        """Print and keep a table."""
        if not isinstance(value, dict):
            raise UserErrorException("Metric %r: log_table needs a dictionary of columns, not %r." % (name, value))
        self._keep("table", name, plain_columns(name, value), description)

    def log_image(self, name: str, path: "Optional[str]" = None, plot: Any = None, description: str = "") -> None:
        """Keep an image (a file, or a matplotlib figure) and log its address."""
        content, suffix = artifacts.image_bytes(name, path, plot)
        self._keep_file("image", name, content, suffix, description)

    def log_confusion_matrix(self, name: str, value: Any, description: "Optional[str]" = None) -> None:
        """As in a run: the document is checked and kept."""
        self._log_chart(artifacts.CONFUSION_MATRIX, name, value, description)

    def log_accuracy_table(self, name: str, value: Any, description: "Optional[str]" = None) -> None:
        """As in a run: the document is checked and kept."""
        self._log_chart(artifacts.ACCURACY_TABLE, name, value, description)

    def log_residuals(self, name: str, value: Any, description: "Optional[str]" = None) -> None:
        """As in a run: the document is checked and kept."""
        self._log_chart(artifacts.RESIDUALS, name, value, description)

    def log_predictions(self, name: str, value: Any, description: "Optional[str]" = None) -> None:
        """As in a run: the document is checked and kept."""
        self._log_chart(artifacts.PREDICTIONS, name, value, description)

    def _log_chart(self, chart: "Chart", name: str, value: Any, description: "Optional[str]") -> None:
        self._keep_file(chart.schema, name, artifacts.chart_bytes(chart, name, value), ".json", description)

    def _keep_file(self, kind: str, name: str, content: bytes, suffix: str, description: "Optional[str]") -> None:
        kept = self._metrics.keep_file(name, content, suffix)
        if kept is not None:
            self._files[kept] = os.path.join(self._folder.files, kept)
            self._keep(kind, name, artifacts.address(self._id, kept), description)

    def _keep(self, kind: str, name: str, value: Any, description: "Optional[str]") -> None:
        self._metrics.composite(name, kind, value, description or "")
        self._say(kind, name, value)

    def _say(self, kind: str, name: str, value: Any) -> None:
        self._keep_state()
        self._points.setdefault(name, []).append(value)
        _say("Attempted to log %s metric %s:\n%s\n" % (kind, name, value))

    def get_metrics(
        self, name: "Optional[str]" = None, recursive: bool = False, run_type: "Optional[str]" = None,
        populate: bool = False,
    ) -> "Dict[str, Any]":  # fmt: skip
        """What was logged, in the shape an online run gives; with ``recursive`` by its children too."""
        found: "Dict[str, List[Any]]" = {}
        below = self._family() if recursive and run_type in (None, self.type) else []
        for run in [self] + below:
            for known, values in run._points.items():
                if name in (None, known):
                    found.setdefault(known, []).extend(run._populated(v) if populate else v for v in values)
        return {known: merged(values) for known, values in found.items()}

    def _populated(self, value: Any) -> Any:
        import json

        kept = artifacts.artifact_name(self._id, value)
        if kept is None or not kept.endswith(".json"):
            return value
        with open(self._files[kept], "rb") as f:
            return json.loads(f.read().decode())

    def _family(self) -> "List[_OfflineRun]":
        return [run for child in self._children for run in [child] + child._family()]

    def flush(self, timeout_seconds: float = 300) -> None:
        """Everything is kept at once."""

    def complete(self) -> None:
        """Mark it as completed."""
        self._end("Completed")

    def fail(self, error_details: Any = None, error_code: Any = None) -> None:
        """Mark it as failed and print why."""
        why = "" if error_details is None else str(error_details)
        self._end("Failed", {"code": str(error_code or "failed_by_client"), "message": why or "It failed."})
        _say("The offline run failed: %s\n" % why if why else "The offline run failed.\n")

    def cancel(self) -> None:
        """Mark it as canceled; the script goes on."""
        self._end("Canceled")

    def _end(self, status: str, error: "Optional[Dict[str, str]]" = None) -> None:
        self._state.update(status=status, error=error, ended=time.time())
        if self._kept:
            self._change()

    def child_run(
        self, name: "Optional[str]" = None, run_id: "Optional[str]" = None, outputs: Any = None
    ) -> "_OfflineRun":
        """A child, offline too."""
        refuse_options("_OfflineRun.child_run", {"outputs": (outputs or None, None, "Upload its files.")})
        self._keep_state()
        child = _OfflineRun(run_id=run_id or "%s_%d" % (self._id, len(self._children)))
        child._parent = self
        child._change(display_name=name, parent=self._id)
        self._children.append(child)
        return child

    def create_children(
        self, count: "Optional[int]" = None, tag_key: "Optional[str]" = None, tag_values: Any = None
    ) -> "List[_OfflineRun]":
        """Several children: ``count`` of them, or one for each of ``tag_values``."""
        if (count is None) == (tag_key is None or tag_values is None):
            raise UserErrorException("create_children needs count, or tag_key with tag_values.")
        made = [self.child_run() for _ in (range(count) if count is not None else tag_values)]
        if tag_key is not None:
            for child, value in zip(made, tag_values):
                child.tag(tag_key, str(value))
        return made

    def get_children(
        self, recursive: bool = False, tags: Any = None, properties: Any = None, type: "Optional[str]" = None,
        status: "Optional[str]" = None,
    ) -> "Iterator[_OfflineRun]":  # fmt: skip
        """Yield the children that this process made, newest first; the filters are those of a run."""
        for child in self._children[::-1]:
            for run in [child] + (child._family() if recursive else []):
                if (
                    type in (None, run.type) and status in (None, run.status)
                    and _holds(run.tags, tags) and _holds(run.properties, properties)
                ):  # fmt: skip
                    yield run

    @property
    def tags(self) -> "Dict[str, str]":
        """Tags by key."""
        return dict(self._state["tags"])

    def get_tags(self) -> "Dict[str, str]":
        """Tags by key."""
        return self.tags

    def tag(self, name: str, value: "Optional[str]" = None) -> None:
        """Keep a tag."""
        self.set_tags({name: value})

    def set_tags(self, tags: "Mapping[str, Any]") -> None:
        """Keep several tags."""
        given = {str(key): "" if value is None else str(value) for key, value in tags.items()}
        self._change(tags=dict(self._state["tags"], **given))

    def remove_tags(self, tags: Any) -> None:
        """Take away the tags of these keys."""
        gone = [tags] if isinstance(tags, str) else list(tags)
        self._change(tags={key: value for key, value in self._state["tags"].items() if key not in gone})

    @property
    def properties(self) -> "Dict[str, str]":
        """Properties by key."""
        return dict(self._state["properties"])

    def get_properties(self) -> "Dict[str, str]":
        """Properties by key."""
        return self.properties

    def add_properties(self, properties: "Mapping[str, Any]") -> None:
        """Keep properties; one that is there already raises, as in a run."""
        for key in properties:
            if str(key) in self._state["properties"]:
                raise UserErrorException("The property %r is there already, and properties never change." % (key,))
        given = {str(key): str(value) for key, value in properties.items()}
        self._change(properties=dict(self._state["properties"], **given))

    def get_file_names(self) -> "List[str]":
        """Names of what was uploaded."""
        return sorted(self._files)

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: "Optional[str]" = None) -> None:
        """Keep a copy of a file or of a stream's content."""
        refuse_options("_OfflineRun.upload_file", {"datastore_name": (datastore_name, None, _STORE)})
        kept = kept_name(name)
        if hasattr(path_or_stream, "read"):
            content = path_or_stream.read()
            self._folder.keep(kept, content.encode("utf-8") if isinstance(content, str) else bytes(content))
        else:
            with open_local(path_or_stream) as f:
                self._folder.keep(kept, f)
        self._files[kept] = os.path.join(self._folder.files, *kept.split("/"))
        self._keep_state()
        _say("Attempted to upload file %s\n" % name)

    def upload_files(
        self, name: "Sequence[str]", paths: "Sequence[str]", return_artifacts: bool = False,
        timeout_seconds: "Optional[int]" = None, datastore_name: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        """Keep copies of several files, ``paths[i]`` under ``name[i]``."""
        refuse_options("_OfflineRun.upload_files", {
            "timeout_seconds": (timeout_seconds, None, "Leave it out."),
            "return_artifacts": (return_artifacts, False, "An offline run has no artifacts."),
        })  # fmt: skip
        if len(name) != len(paths):
            raise UserErrorException(
                "name has %d entries and paths has %d; they go together." % (len(name), len(paths))
            )
        for kept, path in zip(name, paths):
            self.upload_file(kept, path, datastore_name)

    def upload_folder(self, name: str, path: str, datastore_name: "Optional[str]" = None) -> None:
        """Keep copies of the files of a folder."""
        for kept, place in folder_files(name, path):
            self.upload_file(kept, place, datastore_name)

    def download_file(self, name: str, output_file_path: "Optional[str]" = None) -> None:
        """Copy what was uploaded under ``name``."""
        if name not in self._files:
            raise UserErrorException(no_such_file(self._id, name, self.get_file_names()))
        _copy(self._files[name], target_of(name, output_file_path))

    def download_files(
        self, prefix: "Optional[str]" = None, output_directory: "Optional[str]" = None,
        output_paths: "Optional[Sequence[str]]" = None, batch_size: int = 100, append_prefix: bool = True,
        timeout_seconds: "Optional[int]" = None,
    ) -> None:  # fmt: skip
        """Copy what was uploaded under names that begin with ``prefix``; the arguments are those of a run."""
        for name, place in places(
            self._id, self.get_file_names(), prefix, output_directory, output_paths, append_prefix
        ):
            _copy(self._files[name], place)

    def get_all_logs(self, destination: "Optional[str]" = None) -> "List[str]":
        """Copy the log files that were uploaded to a folder; returns their paths."""
        from windlass._details import is_log

        written = []
        for name in self.get_file_names():
            if is_log(name):
                written.append(inside(destination or ".", name))
                _copy(self._files[name], written[-1])
        return written

    def get_snapshot_id(self) -> None:
        """It has none."""

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> "Dict[str, Any]":
        """There is nothing to wait for; returns the details."""
        return self.get_details()

    def get_portal_url(self) -> str:
        """It has no page."""
        raise RunEnvironmentException("An offline run has no web page. " + _SUBMIT)

    def register_model(self, *args: Any, **kwargs: Any) -> Any:
        """It cannot: models are kept in a workspace."""
        raise RunEnvironmentException("An offline run cannot register a model. " + _SUBMIT)

    def __enter__(self) -> "_OfflineRun":
        return self

    def __exit__(self, exit_type: Any, value: Any, traceback: Any) -> None:
        if exit_type is None:
            self.complete()
        else:
            self.fail(value)

    def __repr__(self) -> str:
        return "_OfflineRun(id=%r)" % self._id

    clean = AbsentMethod("Delete its folder under the home's offline/.")
    delete = AbsentMethod("Delete its folder under the home's offline/.")
    get_environment = AbsentMethod(_SUBMIT)
    get_secret = AbsentMethod("Read environment variables.")
    get_secrets = AbsentMethod("Read environment variables.")
    identity = AbsentProperty("Use id.")
    restore_snapshot = AbsentMethod(_SUBMIT)
    submit_child = AbsentMethod(_SUBMIT)
    take_snapshot = AbsentMethod(_SUBMIT)


def _holds(held: "Mapping[str, str]", wanted: Any) -> bool:
    pairs = {wanted: None} if isinstance(wanted, str) else dict(wanted or {})
    return all(key in held and (value is None or held[key] == str(value)) for key, value in pairs.items())


def _copy(source: str, target: str) -> None:
    try:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as e:
        raise UserErrorException("%s cannot be written: %s." % (target, e.strerror or e)) from e


def _say(text: str) -> None:
    sys.stdout.write(text)
