"""Runs as the JSON text that the wire has for them, put together from their rows.

Most columns that are big hold JSON already. A list of a thousand runs so costs a tenth of what making records costs,
making them into dictionaries and those into text.
"""

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any

from windlassd.store.base import RunLine

_text: Callable[[str], str] = encode_basestring_ascii


def line_of(row: Any) -> RunLine:
    """The run of a row that has its experiment's name and its spec, as ``to_wire`` writes its record."""
    reason = "null"
    if row.reason_code is not None:
        reason = f'{{"code":{_text(row.reason_code)},"message":{_text(row.reason_message)}}}'
    return RunLine(
        row.id,
        row.status,
        row.nodes != "[]",
        f'{{"id":{_text(row.id)},"experiment":{_text(row.experiment)},"number":{row.number},"status":"{row.status}",'
        f'"spec":{row.spec},"created":{row.created / 1_000_000!r},"reason":{reason},"started":{_time(row.started)},'
        f'"ended":{_time(row.ended)},"parent_id":{_or_null(row.parent_id)},"display_name":{_or_null(row.display_name)},'
        f'"description":{_or_null(row.description)},"tags":{row.tags},"properties":{row.properties},'
        f'"environment":{row.environment},"nodes":{row.nodes},"exit_code":{_number(row.exit_code)},'
        f'"exit_signal":{_or_null(row.exit_signal)},"lost_points":{row.lost_points},'
        f'"verified":{"true" if row.verified else "false"},"attempt":{row.attempt},"parts":{row.parts},"history":[]}}',
    )


def _time(microseconds: int | None) -> str:
    return "null" if microseconds is None else repr(microseconds / 1_000_000)


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def _or_null(value: str | None) -> str:
    return "null" if value is None else _text(value)
