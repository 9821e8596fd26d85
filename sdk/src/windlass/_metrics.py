"""The wire's metric series as ``get_metrics()`` returns them: one value, a list, or a dictionary of columns."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Sequence

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def values_of(about: "Mapping[str, Any]") -> "List[Any]":
    """The values of one series in order, NaN and infinities as floats."""
    if about["type"] == "float":
        return [_NOT_FINITE[value] if isinstance(value, str) else float(value) for value in about["values"]]
    if "exact" in about:  # a table with NaN or infinities, which JSON has not
        return list(json.loads(about["exact"]))
    return list(about["values"])


def merged(values: "Sequence[Any]") -> Any:
    """What a user sees of the values logged under one name.

    One value stays itself, several make a list; lists (``log_list``) are joined; rows and tables become one dictionary
    of columns, whose cells stay single when there was one row only.
    """
    if values and all(isinstance(value, dict) for value in values):
        return _columns(values)
    if any(isinstance(value, list) for value in values):
        joined: "List[Any]" = []
        for value in values:
            joined += value if isinstance(value, list) else [value]
        return joined
    return values[0] if len(values) == 1 else list(values)


def _columns(rows: "Sequence[Dict[str, Any]]") -> "Dict[str, Any]":
    if len(rows) == 1:
        return dict(rows[0])
    columns: "Dict[str, List[Any]]" = {}
    for row in rows:
        for key, cell in row.items():
            columns.setdefault(key, []).extend(cell if isinstance(cell, list) else [cell])
    return dict(columns)
