"""What a list of runs is narrowed by, as people write it: ``loss<0.1``, ``min(val/loss)<=0.2``, ``max(f1)>0.9``."""

from __future__ import annotations

import math
import re

from windlass.errors import UserErrorException
from windlassd.store.base import MetricFilter

_METRIC = re.compile(r"(?s)(?P<metric>.+?)(?P<comparison><=|>=|!=|==|<|>|=)(?P<value>[^<>=!]+)")
_STATISTIC = re.compile(r"(?s)(last|min|max)\((.+)\)")


def metric_filter(text: str) -> MetricFilter:
    """The filter that ``text`` asks for. Without ``min(…)`` or ``max(…)`` it is about the last value.

    Raises:
        UserErrorException: it is none.
    """
    found = _METRIC.fullmatch(text.strip())
    value = _number(found["value"]) if found else None
    if found is None or value is None:
        raise UserErrorException(
            f"{text!r} is no filter by a metric. Write a metric, one of < <= > >= = != and a number: 'loss<0.1' (its "
            "last value), 'min(loss)<0.1' or 'max(accuracy)>=0.9'.",
            error_code="bad_filter",
        )
    metric = found["metric"].strip()
    inner = _STATISTIC.fullmatch(metric)
    statistic, name = (inner[1], inner[2].strip()) if inner else ("last", metric)
    return MetricFilter(name, statistic, found["comparison"].replace("==", "="), value)


def as_text(wanted: MetricFilter) -> str:
    """The filter as it is written."""
    plain = wanted.statistic == "last" and not _STATISTIC.fullmatch(wanted.name)
    metric = wanted.name if plain else f"{wanted.statistic}({wanted.name})"
    return f"{metric}{wanted.comparison}{wanted.value:g}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value
