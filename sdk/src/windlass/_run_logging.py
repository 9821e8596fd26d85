"""The logging half of ``Run``: metrics and tables go to the spool, and come back from the history."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from windlass import settings
from windlass._metrics_log import MetricsLog, plain_cells, plain_columns
from windlass.errors import RunEnvironmentException, ServiceUnavailable, UserErrorException

if TYPE_CHECKING:
    from windlass._artifact_metrics import Chart
    from windlass._transport.client import Client
    from windlass.experiment import Experiment

_FLUSH_TIMEOUT_S = 300
_HOURS_S = 1e6
"""A job asks for its metrics until the server is back, as with its other calls."""


class RunLogging:
    """Metrics of a run. Logging works in the run's own script only; it never waits for the network or the disk."""

    _metrics: "Optional[MetricsLog]" = None
    _over: "Optional[str]" = None
    """The status this process ended the run with."""
    _id: str

    @property
    def _client(self) -> "Client":
        raise NotImplementedError

    @property
    def experiment(self) -> "Experiment":
        """See ``Run.experiment``."""
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
            metrics = self._log("log")
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
        metrics = self._metrics or self._carried()
        mark = metrics.mark() if metrics is not None else None
        if mark is None:
            return
        name, offset = mark
        deadline, acked, pause_s = time.monotonic() + timeout_seconds, 0, 0.05
        while True:
            left = deadline - time.monotonic()
            if self._ended_outside():
                return
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

    def _ended_outside(self) -> bool:
        """True when somebody else ended the run: then what is not in its history by now has no place there."""
        return False

    def get_metrics(
        self, name: "Optional[str]" = None, recursive: bool = False, run_type: "Optional[str]" = None,
        populate: bool = False,
    ) -> "Dict[str, Any]":  # fmt: skip
        """What was logged: name to value, list of values, or dictionary of columns; of a file, its address.

        Args:
            name: Only this metric.
            recursive: With what the run's children logged, and theirs: values of one name are joined.
            run_type: With ``recursive``: only of children of this type (``azureml.scriptrun``).
            populate: The documents of charts (``log_confusion_matrix`` and its kin) instead of their addresses.
        """
        from windlass._metrics import merged, values_of
        from windlass._run_children import descendants
        from windlass.run import Fits

        self.flush(_FLUSH_TIMEOUT_S if settings.job_context() is None else _HOURS_S)
        found: "Dict[str, List[Any]]" = {}
        below: "List[str]" = []
        if recursive:
            fits = Fits(run_type)
            below = [record.id for record in descendants(self.experiment, self._id, True) if fits(record)]
        for run_id in [self._id] + below[::-1]:
            for key, about in self._series(run_id, name).items():
                values = values_of(about)
                if populate:
                    values = [self._populated(run_id, value) for value in values]
                found.setdefault(key, []).extend(values)
        return {key: merged(values) for key, values in found.items()}

    def _series(self, run_id: str, name: "Optional[str]") -> "Dict[str, Any]":
        from windlass._transport.client import quote

        return dict(self._client.get("/v1/runs/%s/metrics" % quote(run_id), name=name)["metrics"])

    def _populated(self, run_id: str, value: Any) -> Any:
        """The document that ``value`` is the address of; any other value as it is."""
        import json

        from windlass._artifact_metrics import artifact_name
        from windlass._transport.client import quote

        name = artifact_name(run_id, value)
        if name is None or not name.endswith(".json"):
            return value
        answer = self._client.open("GET", quote("/v1/runs/%s/files/%s" % (run_id, name)))
        return json.loads(answer.read().decode())

    def log_image(self, name: str, path: "Optional[str]" = None, plot: Any = None, description: str = "") -> None:
        """Keep an image with the run and log its address.

        Args:
            name: The metric.
            path: An image file; or
            plot: A matplotlib figure, or ``matplotlib.pyplot`` itself.
            description: Shown beside it.

        Raises:
            UserErrorException: none or both are given, or it is no image.
        """
        from windlass._artifact_metrics import image_bytes

        content, suffix = image_bytes(name, path, plot)
        self._log_file("log_image", name, content, suffix, "image", description)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix: v1's document (``class_labels``, ``matrix``) as a dictionary or JSON text."""
        from windlass._artifact_metrics import CONFUSION_MATRIX

        self._log_chart(CONFUSION_MATRIX, name, value, description)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log v1's accuracy table: tables by probability and by percentile, as a dictionary or JSON text."""
        from windlass._artifact_metrics import ACCURACY_TABLE

        self._log_chart(ACCURACY_TABLE, name, value, description)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log residuals as a histogram: v1's document (``bin_edges``, ``bin_counts``) as a dictionary or JSON text."""
        from windlass._artifact_metrics import RESIDUALS

        self._log_chart(RESIDUALS, name, value, description)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions by bins of the true value: v1's document as a dictionary or JSON text."""
        from windlass._artifact_metrics import PREDICTIONS

        self._log_chart(PREDICTIONS, name, value, description)

    def _log_chart(self, chart: "Chart", name: str, value: Any, description: str) -> None:
        from windlass._artifact_metrics import chart_bytes

        content = chart_bytes(chart, name, value)
        self._log_file("log_" + chart.schema, name, content, ".json", chart.schema, description)

    def _log_file(self, method: str, name: str, content: bytes, suffix: str, kind: str, description: str) -> None:
        from windlass._artifact_metrics import address

        if self._metrics is None:
            raise self._elsewhere(method)
        metrics = self._metrics
        kept = metrics.keep_file(name, content, suffix)
        if kept is not None:
            metrics.composite(name, kind, address(self._id, kept), description or "")

    def _log(self, method: str) -> MetricsLog:
        """The writer of this run's metrics: its own in its script or the process that began it, else a carried one."""
        if self._metrics is not None:
            return self._metrics
        if self._over is not None:
            raise self._elsewhere(method)
        from windlass._session import session

        return session(self._client).carry(self._id)

    def _carried(self) -> "Optional[MetricsLog]":
        """What this process logged into the run from outside, if it did."""
        from windlass._session import carried

        return None if self._over is not None else carried(self._id)

    def _elsewhere(self, method: str) -> RunEnvironmentException:
        if self._over is not None:
            return RunEnvironmentException(
                "run.%s came after the run %s was ended (%s). Log before complete()." % (method, self._id, self._over)
            )
        return RunEnvironmentException(
            "run.%s works in the script of the run itself, through Run.get_context(), or in the process that began it; "
            "this process is not part of %s." % (method, self._id)
        )


def flush_once(client: "Client", run_id: str, spool: str, offset: int, timeout_s: float) -> int:
    """Ask once for the spool file to be shipped up to ``offset``; returns the bytes that are in the history."""
    import json

    from windlass._transport.client import PATIENCE_S, TIMEOUT_S, quote

    body = json.dumps({"spool": spool, "offset": offset}).encode()
    answer = client.open(
        "POST", "/v1/runs/%s/flush" % quote(run_id), body=body, content_type="application/json",
        timeout_s=min(TIMEOUT_S, max(1.0, timeout_s)), patience_s=min(PATIENCE_S, timeout_s),
    )  # fmt: skip
    return int(json.loads(answer.read().decode())["acked"])
