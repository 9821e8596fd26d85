"""The logging half of ``Run``: metrics and tables go to the spool, and come back from the history."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from windlass._metrics_log import MetricsLog, plain_cells, plain_columns
from windlass._not_offered import AbsentMethod, refuse_options
from windlass.errors import RunEnvironmentException, ServiceUnavailable, UserErrorException

if TYPE_CHECKING:
    from windlass._transport.client import Client

_FLUSH_TIMEOUT_S = 300
_AS_FILE = "Save it under ./outputs, which is kept with the run."


class RunLogging:
    """Metrics of a run. Logging works in the run's own script only; it never waits for the network or the disk."""

    _metrics: "Optional[MetricsLog]" = None
    _id: str

    @property
    def _client(self) -> "Client":
        raise NotImplementedError

    def log(self, name: str, value: Any, description: str = "", step: "Optional[int]" = None) -> None:
        """Log one value under ``name``; logged again, it becomes a list.

        Args:
            name: The metric.
            value: A number, text, True, False, None, or an object with ``item()`` or ``__float__``.
            description: Shown beside the metric; the first one counts.
            step: Position on the x axis of its chart.

        Raises:
            UserErrorException: the value is of another type.
        """
        metrics = self._metrics
        if metrics is None:
            raise _elsewhere(self._id, "log")
        metrics.scalar(name, value, description, step)

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Log a list of values under ``name``; logged again, the lists are joined."""
        self._log("log_list").composite(name, "list", plain_cells(name, value), description)

    def log_row(self, name: str, description: "Optional[str]" = None, **kwargs: Any) -> None:
        """Log one row: each keyword is a column."""
        if not kwargs:
            raise UserErrorException(
                "Metric %r: log_row needs at least one column, such as log_row(%r, x=1, y=2)." % (name, name)
            )
        self._log("log_row").composite(name, "row", plain_columns(name, kwargs), description or "")

    def log_table(self, name: str, value: "Mapping[str, Any]", description: str = "") -> None:
        """Log a table: a dictionary of columns, each a list (or one value)."""
        if not isinstance(value, dict) or not value:
            raise UserErrorException(
                "Metric %r: log_table needs a dictionary of columns such as {'x': [1, 2]}, not %r." % (name, value)
            )
        self._log("log_table").composite(name, "table", plain_columns(name, value), description)

    def flush(self, timeout_seconds: float = _FLUSH_TIMEOUT_S) -> None:
        """Return when all that this process logged is in the run history.

        Raises:
            ServiceUnavailable: it is not, after ``timeout_seconds``; nothing is lost, it follows later.
        """
        mark = self._metrics.mark() if self._metrics is not None else None
        if mark is None:
            return
        name, offset = mark
        deadline, acked, pause_s = time.monotonic() + timeout_seconds, 0, 0.05
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ServiceUnavailable(
                    "After %g s the history of %s has %d of the %d bytes logged. They are on disk and follow later."
                    % (timeout_seconds, self._id, acked, offset)
                )
            try:
                acked = flush_once(self._client, self._id, name, offset, left)
                if acked >= offset:
                    return
            except ServiceUnavailable as e:
                if not e.transient:
                    raise
            time.sleep(min(pause_s, left))  # the server waits itself; this spares one that gave up or is not there
            pause_s = min(1.0, pause_s * 2)

    def get_metrics(
        self, name: "Optional[str]" = None, recursive: bool = False, run_type: "Optional[str]" = None,
        populate: bool = False,
    ) -> "Dict[str, Any]":  # fmt: skip
        """What was logged: name to value, list of values, or dictionary of columns.

        Args:
            name: Only this metric.
            recursive: Not offered: no run has children yet.
            run_type: Not offered.
            populate: Not offered.
        """
        from windlass._metrics import metrics_from_wire
        from windlass._transport.client import quote

        refuse_options("Run.get_metrics", {
            "recursive": (recursive, False, "No run has children yet."),
            "run_type": (run_type, None, "All runs are script runs."),
            "populate": (populate, False, "Values are kept in the history itself."),
        })  # fmt: skip
        self.flush()
        answer = self._client.get("/v1/runs/%s/metrics" % quote(self._id), name=name)
        return metrics_from_wire(answer["metrics"])

    def _log(self, method: str) -> MetricsLog:
        if self._metrics is None:
            raise _elsewhere(self._id, method)
        return self._metrics

    log_accuracy_table = AbsentMethod("Use log_table.")
    log_confusion_matrix = AbsentMethod("Use log_table.")
    log_image = AbsentMethod(_AS_FILE)
    log_predictions = AbsentMethod("Use log_table.")
    log_residuals = AbsentMethod("Use log_table.")


def flush_once(client: "Client", run_id: str, spool: str, offset: int, timeout_s: float) -> int:
    """Ask once for the spool file to be shipped up to ``offset``; returns the bytes that are in the history."""
    import json

    from windlass._transport.client import quote

    body = json.dumps({"spool": spool, "offset": offset}).encode()
    answer = client.open(
        "POST", "/v1/runs/%s/flush" % quote(run_id), body=body, content_type="application/json",
        timeout_s=max(1.0, timeout_s),
    )  # fmt: skip
    return int(json.loads(answer.read().decode())["acked"])


def _elsewhere(run_id: str, method: str) -> RunEnvironmentException:
    return RunEnvironmentException(
        "run.%s works in the script of the run itself, through Run.get_context(); this process is not part of %s."
        % (method, run_id)
    )
