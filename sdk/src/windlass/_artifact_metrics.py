"""Metrics that are files: images, and the documents of v1's four charts. Checked here, stored by ``_run_logging``."""

from __future__ import annotations

import io
import json
import os
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Sequence, Tuple

from windlass.errors import UserErrorException

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg")
_PREFIX = "aml://artifactId/ExperimentRun/dcid."


class Chart(NamedTuple):
    """One of v1's charts: its schema type, the lists its data must hold, and a further check."""

    schema: str
    lists: "Tuple[str, ...]"
    check: "Callable[[str, Dict[str, Any]], None]"


def address(run_id: str, name: str) -> str:
    """The value that a metric of this file has: v1's address of an artifact."""
    return "%s%s/%s" % (_PREFIX, run_id, name)


def artifact_name(run_id: str, value: Any) -> "str | None":
    """The kept file that a metric's value is the address of; None for any other value."""
    start = "%s%s/" % (_PREFIX, run_id)
    return value[len(start) :] if isinstance(value, str) and value.startswith(start) else None


def image_bytes(name: str, path: Any, plot: Any) -> "Tuple[bytes, str]":
    """Content and suffix of the image given as a file or as a figure.

    Raises:
        UserErrorException: none or both are given, the file cannot be read, or the plot cannot be saved.
    """
    if (path is None) == (plot is None):
        raise UserErrorException("log_image(%r): give path (an image file) or plot (a figure), one of them." % name)
    if plot is not None:
        return _drawn(name, plot), ".png"
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in IMAGES:
        raise UserErrorException(
            "log_image(%r, path=%r): this is no image by its name; there are %s." % (name, path, ", ".join(IMAGES))
        )
    try:
        with open(os.path.expanduser(path), "rb") as f:
            return f.read(), suffix
    except OSError as e:
        raise UserErrorException("log_image(%r, path=%r): %s." % (name, path, e.strerror or e)) from e


def _drawn(name: str, plot: Any) -> bytes:
    if not hasattr(plot, "savefig") and hasattr(plot, "get_figure"):  # axes
        plot = plot.get_figure()
    if not hasattr(plot, "savefig"):
        raise UserErrorException(
            "log_image(%r, plot=…): a matplotlib figure or matplotlib.pyplot is needed, not %s."
            % (name, type(plot).__qualname__)
        )
    out = io.BytesIO()
    plot.savefig(out, format="png")
    return out.getvalue()


def chart_bytes(chart: Chart, name: str, value: Any) -> bytes:
    """The document ``value`` (a dictionary, or JSON text) of a chart, checked, as JSON.

    Raises:
        UserErrorException: it is not such a document; the message says what is missing.
    """
    document = value
    if isinstance(value, (str, bytes)):
        try:
            document = json.loads(value)
        except ValueError as e:
            _refuse(chart, name, "the text is not JSON (%s)" % e)
    if not isinstance(document, dict):
        _refuse(chart, name, "a dictionary or JSON text is needed, not %s" % type(value).__qualname__)
    if document.get("schema_type", chart.schema) != chart.schema:
        _refuse(chart, name, "schema_type is %r, not %r" % (document["schema_type"], chart.schema))
    data = document.get("data")
    if not isinstance(data, dict):
        _refuse(chart, name, "it has no dictionary 'data'")
    for key in chart.lists:
        if not _is_list(data.get(key)):
            _refuse(chart, name, "data[%r] must be a list" % key)
    chart.check(name, data)
    try:
        return json.dumps(document, default=_plain).encode()
    except (TypeError, ValueError) as e:
        _refuse(chart, name, "it holds what JSON cannot (%s)" % e)


def _refuse(chart: Chart, name: str, why: str) -> NoReturn:
    raise UserErrorException(
        "log_%s(%r): %s. The document is {'schema_type': %r, 'schema_version': 'v1', 'data': {%s}}."
        % (chart.schema, name, why, chart.schema, ", ".join("%r: […]" % key for key in chart.lists))
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and bool(getattr(value, "shape", ())))


def _plain(value: Any) -> Any:
    """What JSON does not know: arrays and scalars of numeric libraries."""
    for method in ("tolist", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError("a value of type %s" % type(value).__qualname__)


def _lengths(name: str, chart: Chart, data: "Dict[str, Any]", pairs: "Sequence[Tuple[str, str, int]]") -> None:
    """Refuse when of a pair of lists the first is not longer than the second by the given number."""
    for first, second, more in pairs:
        if len(data[first]) != len(data[second]) + more:
            _refuse(
                chart, name, "data[%r] has %d entries and data[%r] %d; the first must have %s"
                % (first, len(data[first]), second, len(data[second]), "%d more" % more if more else "as many"),
            )  # fmt: skip


def _histogram(name: str, data: "Dict[str, Any]") -> None:
    _lengths(name, RESIDUALS, data, [("bin_edges", "bin_counts", 1)])


def _bins(name: str, data: "Dict[str, Any]") -> None:
    _lengths(name, PREDICTIONS, data, [("bin_averages", "bin_errors", 0), ("bin_averages", "bin_counts", 0)])


def _square(name: str, data: "Dict[str, Any]") -> None:
    size = len(data["class_labels"])
    rows: "Sequence[Any]" = data["matrix"]
    if len(rows) != size or any(not _is_list(row) or len(row) != size for row in rows):
        _refuse(CONFUSION_MATRIX, name, "data['matrix'] must have %d rows of %d, as class_labels has" % (size, size))


def _tables(name: str, data: "Dict[str, Any]") -> None:
    labels: "List[Any]" = list(data["class_labels"])
    for kind in ("probability", "percentile"):
        if len(data[kind + "_tables"]) != len(labels):
            _refuse(ACCURACY_TABLE, name, "data['%s_tables'] must have one table for each class label" % kind)


CONFUSION_MATRIX = Chart("confusion_matrix", ("class_labels", "matrix"), _square)
ACCURACY_TABLE = Chart(
    "accuracy_table",
    ("probability_tables", "percentile_tables", "probability_thresholds", "percentile_thresholds", "class_labels"),
    _tables,
)
RESIDUALS = Chart("residuals", ("bin_edges", "bin_counts"), _histogram)
PREDICTIONS = Chart("predictions", ("bin_averages", "bin_errors", "bin_counts", "bin_edges"), _bins)
