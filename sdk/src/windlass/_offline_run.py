"""The run outside any run: it prints what is logged and keeps it, and talks to nobody."""

from __future__ import annotations

import shutil
import sys
import uuid
from typing import Any, Dict, List, Mapping, Optional, Sequence

from windlass._files import folder_files, kept_name, no_such_file, open_local, target_of
from windlass._metrics import merged
from windlass._metrics_log import plain_cells, plain_columns, plain_value
from windlass._not_offered import AbsentMethod, AbsentProperty
from windlass.errors import RunEnvironmentException, UserErrorException

_SUBMIT = "It needs a workspace: submit the script with experiment.submit."


class _OfflineRun:
    """What ``Run.get_context()`` gives outside any run. It has no ``experiment``: scripts test for that."""

    def __init__(self, parent_logger: Any = None, run_id: "Optional[str]" = None, **kwargs: Any) -> None:
        self._id = run_id or "OfflineRun_%s" % uuid.uuid4()
        self._status = "Running"
        self._points: "Dict[str, List[Any]]" = {}
        self._tags: "Dict[str, str]" = {}
        self._properties: "Dict[str, str]" = {}
        self._files: "Dict[str, bytes | str]" = {}
        self.display_name: "Optional[str]" = None

    @property
    def id(self) -> str:
        """``OfflineRun_`` and a UUID."""
        return self._id

    @property
    def name(self) -> "Optional[str]":
        """As ``display_name``."""
        return self.display_name

    @property
    def number(self) -> int:
        """Always 1."""
        return 1

    @property
    def type(self) -> str:
        """v1's type of it."""
        return "OfflineRun"

    @property
    def parent(self) -> None:
        """It has none."""
        return None

    @property
    def status(self) -> str:
        """``Running`` until it is completed, failed or canceled."""
        return self._status

    def get_status(self) -> str:
        """As ``status``."""
        return self._status

    def get_details(self) -> "Dict[str, Any]":
        """What is known, under v1's keys."""
        from windlass._details import Details

        return Details(
            runId=self._id, target=None, status=self._status, properties=dict(self._properties), inputDatasets=[],
            outputDatasets=[], runDefinition={}, logFiles={}, error=None, startTimeUtc=None, endTimeUtc=None,
            submittedBy=None,
        )  # fmt: skip

    def log(self, name: str, value: Any, description: str = "", step: "Optional[int]" = None) -> None:
        """Print and keep one value; types are checked as in a run."""
        self._keep("scalar", name, plain_value(name, value))

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Print and keep a list."""
        self._keep("list", name, plain_cells(name, value))

    def log_row(self, name: str, description: "Optional[str]" = None, **kwargs: Any) -> None:
        """Print and keep a row."""
        self._keep("row", name, plain_columns(name, kwargs))

    def log_table(self, name: str, value: "Mapping[str, Any]", description: str = "") -> None:
        """Print and keep a table."""
        if not isinstance(value, dict):
            raise UserErrorException("Metric %r: log_table needs a dictionary of columns, not %r." % (name, value))
        self._keep("table", name, plain_columns(name, value))

    def _keep(self, kind: str, name: str, value: Any) -> None:
        self._points.setdefault(name, []).append(value)
        _say("Attempted to log %s metric %s:\n%s\n" % (kind, name, value))

    def get_metrics(
        self, name: "Optional[str]" = None, recursive: bool = False, run_type: "Optional[str]" = None,
        populate: bool = False,
    ) -> "Dict[str, Any]":  # fmt: skip
        """What was logged, in the shape an online run gives."""
        return {known: merged(values) for known, values in self._points.items() if name in (None, known)}

    def flush(self, timeout_seconds: float = 300) -> None:
        """Everything is kept at once."""

    def complete(self) -> None:
        """Mark it as completed."""
        self._status = "Completed"

    def fail(self, error_details: Any = None, error_code: Any = None) -> None:
        """Mark it as failed and print why."""
        self._status = "Failed"
        _say(
            "The offline run failed: %s\n" % error_details if error_details is not None else "The offline run failed.\n"
        )

    def cancel(self) -> None:
        """Mark it as canceled; the script goes on."""
        self._status = "Canceled"

    def child_run(
        self, name: "Optional[str]" = None, run_id: "Optional[str]" = None, outputs: Any = None
    ) -> "_OfflineRun":
        """Another offline run."""
        child = _OfflineRun(run_id=run_id)
        child.display_name = name
        return child

    @property
    def tags(self) -> "Dict[str, str]":
        """Tags by key."""
        return dict(self._tags)

    def get_tags(self) -> "Dict[str, str]":
        """Tags by key."""
        return self.tags

    def tag(self, name: str, value: "Optional[str]" = None) -> None:
        """Keep a tag."""
        self.set_tags({name: value})

    def set_tags(self, tags: "Mapping[str, Any]") -> None:
        """Keep several tags."""
        self._tags.update({str(key): "" if value is None else str(value) for key, value in tags.items()})

    def remove_tags(self, tags: Any) -> None:
        """Take away the tags of these keys."""
        for key in [tags] if isinstance(tags, str) else tags:
            self._tags.pop(key, None)

    @property
    def properties(self) -> "Dict[str, str]":
        """Properties by key."""
        return dict(self._properties)

    def get_properties(self) -> "Dict[str, str]":
        """Properties by key."""
        return self.properties

    def add_properties(self, properties: "Mapping[str, Any]") -> None:
        """Keep properties; one that has another value raises, as in a run."""
        for key, value in properties.items():
            if self._properties.get(str(key), str(value)) != str(value):
                raise UserErrorException("The property %r is %r already." % (key, self._properties[str(key)]))
        self._properties.update({str(key): str(value) for key, value in properties.items()})

    def get_file_names(self) -> "List[str]":
        """Names of what was uploaded."""
        return sorted(self._files)

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: "Optional[str]" = None) -> None:
        """Keep where the file lies, or the content of the stream."""
        if hasattr(path_or_stream, "read"):
            content = path_or_stream.read()
            self._files[kept_name(name)] = content.encode("utf-8") if isinstance(content, str) else bytes(content)
        else:
            open_local(path_or_stream).close()
            self._files[kept_name(name)] = str(path_or_stream)
        _say("Attempted to upload file %s\n" % name)

    def upload_files(
        self, names: "Sequence[str]", paths: "Sequence[str]", return_artifacts: bool = False,
        timeout_seconds: "Optional[int]" = None, datastore_name: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        """Keep where several files lie."""
        if len(names) != len(paths):
            raise UserErrorException(
                "names has %d entries and paths has %d; they go together." % (len(names), len(paths))
            )
        for name, path in zip(names, paths):  # noqa: B905 - 3.7 has no strict
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, datastore_name: "Optional[str]" = None) -> None:
        """Keep where the files of a folder lie."""
        for kept, place in folder_files(name, path):
            self.upload_file(kept, place)

    def download_file(self, name: str, output_file_path: "Optional[str]" = None) -> None:
        """Copy what was uploaded under ``name``."""
        if name not in self._files:
            raise UserErrorException(no_such_file(self._id, name, self.get_file_names()))
        content = self._files[name]
        with open(target_of(name, output_file_path), "wb") as f:
            if isinstance(content, bytes):
                f.write(content)
            else:
                with open_local(content) as source:
                    shutil.copyfileobj(source, f)

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> "Dict[str, Any]":
        """There is nothing to wait for; returns the details."""
        return self.get_details()

    def get_children(self, *args: Any, **kwargs: Any) -> "List[Any]":
        """It has none."""
        return []

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

    description = AbsentProperty("Set display_name, or a tag.")
    download_files = AbsentMethod("Use download_file for each.")
    get_all_logs = AbsentMethod(_SUBMIT)
    get_details_with_logs = AbsentMethod(_SUBMIT)
    identity = AbsentProperty("Use id.")
    get_environment = AbsentMethod(_SUBMIT)
    get_secret = AbsentMethod("Read environment variables.")
    get_secrets = AbsentMethod("Read environment variables.")
    get_snapshot_id = AbsentMethod(_SUBMIT)
    log_accuracy_table = AbsentMethod("Use log_table.")
    log_confusion_matrix = AbsentMethod("Use log_table.")
    log_image = AbsentMethod("Save it under ./outputs.")
    log_predictions = AbsentMethod("Use log_table.")
    log_residuals = AbsentMethod("Use log_table.")
    restore_snapshot = AbsentMethod(_SUBMIT)
    submit_child = AbsentMethod(_SUBMIT)
    take_snapshot = AbsentMethod(_SUBMIT)


def _say(text: str) -> None:
    sys.stdout.write(text)
