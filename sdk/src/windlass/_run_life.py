"""The life of a run that this process holds: begun by ``start_logging`` or ``child_run``, ended by its user."""

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from windlass import settings
from windlass._away import send_files
from windlass._not_offered import not_offered
from windlass._run_logging import RunLogging
from windlass._spools import write_end
from windlass.errors import AzureMLException, ServiceUnavailable, SnapshotException, UserErrorException

if TYPE_CHECKING:
    from windlass._special_folders import SpecialFolders
    from windlass.experiment import Experiment
    from windlass.run import Run
    from windlass.specs.run import RunRecord

_FAILED_CODE = "failed_by_client"
_END_PATIENCE_S = 60.0


class RunLife(RunLogging):
    """How a run ends. A submitted script's run ends with its script; any other when its process says so."""

    _context_dir: "Optional[str]" = None
    _folders: "Optional[SpecialFolders]" = None

    def _record(self) -> "RunRecord":
        raise NotImplementedError

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: "Optional[str]" = None) -> Any:
        """See ``RunFiles.upload_file``."""
        raise NotImplementedError

    def start(self) -> None:
        """Take over a run that another process began, such as a child: from now on this process logs and holds it.

        Raises:
            UserErrorException: it is over.
            NotOffered: it is a submitted script's, which starts by itself.
        """
        from windlass._metrics_log import metrics_log
        from windlass._session import session

        if self._metrics is not None:
            return
        record = self._record()
        if record.spec.kind == "job":
            raise not_offered("Run.start() of a submitted script", "It starts by itself.")
        if record.status.final:
            raise UserErrorException("The run %s is over (%s); begin another." % (self._id, record.status.value))
        self._metrics = metrics_log(session(self._client).take_over(self._id))

    def complete(self) -> None:
        """End the run as Completed, with all that was logged and what lies in ``./outputs`` and ``./logs``.

        Where the server cannot be had for a minute the end is written down, and is recorded when it is back.

        In a submitted script it returns when what this process logged is in the history; the run ends with the script.
        """
        self._finish("Completed", None)

    def fail(self, error_details: Any = None, error_code: Any = None) -> None:
        """End the run as Failed. A submitted script goes on; however it ends, its run will be Failed.

        Args:
            error_details: Why: text, an exception, or a dictionary.
            error_code: For machines.
        """
        words = "The run was failed by run.fail()." if error_details is None else _words(error_details)
        self._finish("Failed", {"code": str(error_code or _FAILED_CODE), "message": words})

    def cancel(self) -> None:
        """Ask the run to end; a run that is over stays as it is."""
        if self._held():
            self.flush()
        self._expect_end()
        self._client.post("/v1/runs/%s/cancel" % self._id)
        self._let_go("Canceled")

    def delete(self) -> None:
        """Delete the run, which must have ended, with its children, metrics, logs and files.

        Models that were registered from it keep their files. This method is Windlass's own.

        Raises:
            UserErrorException: it, or a child, has not ended.
        """
        self._client.delete("/v1/runs/%s" % self._id)

    def _finish(self, status: str, reason: "Optional[Mapping[str, str]]") -> None:
        if self._over is not None:
            return
        if self._context_dir is not None:
            self._say_end(status, reason)
            return
        now = time.time()
        try:
            self._end_now(status, reason)
        except ServiceUnavailable as e:
            self._end_later({"status": status, "reason": reason, "time": now}, e)

    def _say_end(self, status: str, reason: "Optional[Mapping[str, str]]") -> None:
        """In a submitted script: its run ends with it, and its agent outlasts any outage of the server."""
        try:
            self.flush()
        except ServiceUnavailable as e:
            sys.stderr.write("windlass: %s\n" % e.message)
        if status != "Completed":
            self._client.post("/v1/runs/%s/end" % self._id, {"status": status, "reason": reason})

    def _end_now(self, status: str, reason: "Optional[Mapping[str, str]]") -> None:
        self.flush(_END_PATIENCE_S if self._held() else 300)
        if self._ended_outside():
            self._let_go(self._record().status.value)
            return
        if self._metrics is not None and settings.elsewhere():
            send_files(self._client, self._id, self._metrics.folder)
        for name, path in self._folders.written() if self._folders is not None else ():
            self.upload_file(name, path)
        self._expect_end()
        self._client.post("/v1/runs/%s/end" % self._id, {"status": status, "reason": reason})
        self._let_go(status)

    def _end_later(self, end: "Dict[str, Any]", problem: ServiceUnavailable) -> None:
        """No server can be had: write the end down beside the spools, where the next server finds it."""
        if not self._held() or self._metrics is None:
            raise problem
        written = list(self._folders.written()) if self._folders is not None else []
        self._expect_end()
        try:
            write_end(self._metrics.folder, dict(end, files=written))
        except OSError:  # such as a full disk
            raise problem from None
        sys.stderr.write(
            "windlass: %s The run %s is over as %s all the same: that is written down, and is recorded with all that "
            "was logged as soon as the server is back.\n" % (problem.message, self._id, end["status"])
        )
        self._metrics.close()
        self._metrics, self._over = None, end["status"]

    def _expect_end(self) -> None:
        if self._held():
            from windlass._session import session

            session(self._client).expect_end(self._id)

    def _held(self) -> bool:
        return self._metrics is not None and self._context_dir is None

    def _let_go(self, status: str) -> None:
        if self._held():
            from windlass._session import session

            session(self._client).release(self._id)
            if self._metrics is not None:
                self._metrics.close()
            self._metrics, self._over = None, status

    def _ended_outside(self) -> bool:
        from windlass._session import session

        return self._held() and session(self._client).ended_outside(self._id)

    def flush(self, timeout_seconds: float = 300) -> None:
        """Return when all that this process logged is in the run history.

        Raises:
            ServiceUnavailable: it is not, after ``timeout_seconds``; nothing is lost, it follows later.
        """
        if self._held():
            from windlass._session import session

            session(self._client).wake()
        super().flush(timeout_seconds)

    def __exit__(self, exit_type: Any, value: Any, traceback: Any) -> None:
        if exit_type is None or (exit_type is SystemExit and getattr(value, "code", None) in (None, 0)):
            self.complete()
            return
        try:
            self.fail(value if str(value) else exit_type.__name__)
        except AzureMLException as e:  # what went wrong in the block is what its user must see
            sys.stderr.write("windlass: the run %s could not be marked as failed: %s\n" % (self._id, e))


def start_logging(experiment: "Experiment", options: "Dict[str, Any]") -> "Run":
    """The run behind ``Experiment.start_logging``; ``options`` are its keyword arguments."""
    from windlass._git import GitState
    from windlass._submit import _user

    given = dict(options)
    outputs, display_name = given.pop("outputs", None), given.pop("display_name", None)
    asked_folder = given.pop("snapshot_directory", ".")
    is_default = "snapshot_directory" not in options
    for name in given:
        what = "Experiment.start_logging(%s=…)" % name
        raise not_offered(what, "There are outputs, snapshot_directory and display_name.")
    root = os.getcwd()
    git: "Mapping[str, str]" = {}
    snapshot_id = ""
    if asked_folder is not None:
        folder = os.path.abspath(os.path.expanduser(str(asked_folder)))
        snapshot_id = _default_snapshot(experiment, folder) if is_default else _snapshot(experiment, folder)
        state = GitState(folder)
        try:
            git = state.read()
        finally:
            state.close()
    spec = {
        "display_name": display_name, "snapshot_id": snapshot_id, "git": dict(git), "submitted_by": _user(),
        "source_directory": root,
    }  # fmt: skip
    return begin_run(experiment, spec, folders(root, outputs, ["outputs", "logs"]))


def begin_run(
    experiment: "Experiment", spec: "Mapping[str, Any]", kept: "Optional[SpecialFolders]",
    run_id: "Optional[str]" = None,
) -> "Run":  # fmt: skip
    """A run that this process holds from now on; ``kept`` are its special folders."""
    from windlass._session import begin
    from windlass.run import Run

    asked = {
        "spec": dict({"experiment": experiment.name, "script": "", "snapshot_id": "", "target": "sdk"}, **spec),
        "run_id": run_id,
    }
    root = kept.root if kept is not None else None
    record, metrics = begin(experiment.workspace._client, asked, root)
    run = Run._of(experiment, record)
    run._metrics, run._folders = metrics, kept
    return run


def folders(root: str, outputs: Any, default: "List[str]") -> "Optional[SpecialFolders]":
    """The folders to keep for the argument ``outputs``: None is the default, False none, else a folder's path."""
    from windlass._files import kept_name
    from windlass._special_folders import SpecialFolders

    if outputs is False:
        return None
    if outputs is not None:
        default = [kept_name(outputs)] + default[1:]
    return SpecialFolders(root, default) if default else None


def _snapshot(experiment: "Experiment", folder: str) -> str:
    from windlass import _snapshot
    from windlass._submit import check_source

    return _snapshot.take(experiment.workspace._client, _snapshot.list_files(check_source(folder)).files)


def _default_snapshot(experiment: "Experiment", folder: str) -> str:
    """A snapshot that nobody asked for: where it cannot be, the run goes without."""
    if folder in (os.path.abspath(os.sep), os.path.expanduser("~")):
        why = "%s is no folder of sources" % folder
    else:
        try:
            return _snapshot(experiment, folder)
        except SnapshotException as e:
            why = str(e)
    warnings.warn(
        "No snapshot of the working folder is kept: %s. Name one with snapshot_directory, or None for none." % why,
        stacklevel=4,
    )
    return ""


def _words(details: Any) -> str:
    if isinstance(details, BaseException):
        return "%s: %s" % (type(details).__name__, details)
    if isinstance(details, dict):
        import json

        return json.dumps(details, default=str)
    return str(details)
