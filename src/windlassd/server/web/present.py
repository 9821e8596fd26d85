"""How values are written on a page. ``static/times.js`` writes times and durations the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

from windlass.specs.status import RunStatus

_MINUS = "\N{MINUS SIGN}"
_TONES = {
    RunStatus.RUNNING: "active",
    RunStatus.FINALIZING: "active",
    RunStatus.CANCEL_REQUESTED: "trouble",
    RunStatus.NOT_RESPONDING: "trouble",
    RunStatus.COMPLETED: "good",
    RunStatus.FAILED: "bad",
    RunStatus.CANCELED: "stopped",
}


def tone(status: RunStatus) -> str:
    """The colour family of a status: waiting, active, trouble, good, bad or stopped."""
    return _TONES.get(status, "waiting")


def words(status: RunStatus) -> str:
    """A status as words: "Not responding"."""
    name = status.value
    return name[0] + "".join(f" {c.lower()}" if c.isupper() else c for c in name[1:])


def duration(seconds: float) -> str:
    """A length of time in at most two units: "6 ms", "0.4 s", "3 min 20 s", "2 d 4 h"."""
    seconds = max(0.0, seconds)
    if 0.0005 <= seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    for unit, size, below, least in (("min", 60, "s", 1), ("h", 3600, "min", 60), ("d", 86400, "h", 3600)):
        if whole < size * (24 if unit == "h" else 60) or unit == "d":
            rest = whole % size // least
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    raise AssertionError("days have no upper end")


def ago(moment: float, now: float) -> str:
    """How long ago a moment was, roughly; a date once it is over a month."""
    seconds = now - moment
    if seconds < 5:
        return "just now"
    for unit, size, end in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86400), ("d", 86400, 31 * 86400)):
        if seconds < end:
            return f"{int(seconds // size)} {unit} ago"
    return utc(moment).strftime("%Y-%m-%d")


def exact(moment: float) -> str:
    """A moment to the second, in UTC."""
    return utc(moment).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(moment: float) -> str:
    """A moment for ``<time datetime>``."""
    return utc(moment).isoformat(timespec="milliseconds")


def utc(moment: float) -> datetime:
    """Unix seconds as an aware time."""
    return datetime.fromtimestamp(moment, UTC)


def when(moment: float, now: float) -> Markup:
    """A moment as an element: how long ago, and exactly when pointed at."""
    return Markup(f'<time datetime="{iso(moment)}" title="{exact(moment)}" data-ago>{ago(moment, now)}</time>')


def took(began: float, ended: float | None, now: float) -> Markup:
    """How long something took as an element; one that goes on is counted up by the page."""
    since = f' data-since="{iso(began)}"' if ended is None else ""
    return Markup(f'<span class="num"{since}>{duration((now if ended is None else ended) - began)}</span>')


@cache
def badge(status: RunStatus, large: bool = False) -> Markup:
    """A status as an element, in its colours."""
    kind = f"{tone(status)}{' large' if large else ''}"
    return Markup(f'<span class="status {kind}"><span class="dot" aria-hidden="true"></span>{words(status)}</span>')


def tags(values: Iterable[tuple[str, str]]) -> Markup:
    """Tags as links to the runs that have them too."""
    return Markup("").join(_tag(key, value) for key, value in values)


def _tag(key: str, value: str) -> Markup:
    query = urlencode({"tag": f"{key}={value}" if value else key}, quote_via=quote, errors="replace")
    shown = f"<b>{escape(value)}</b>" if value else ""
    return Markup(f'<a class="tag" href="/runs?{query}"><span>{escape(key)}</span>{shown}</a>\n')


def size(count: int) -> str:
    """Bytes for people: "812 B", "1.4 MB"."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def number(value: Any) -> str:
    """A metric value in about five digits; anything else than a number as short JSON."""
    if isinstance(value, str):
        value = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return text if len(text) <= 60 else text[:59] + "…"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else f"{_MINUS}∞")
    text = f"{value:,d}".replace(",", "\u202f") if isinstance(value, int) else f"{value:.5g}"
    return text.replace("-", _MINUS, 1) if text.startswith("-") else text


def json_ready(value: Any) -> Any:
    """``value`` (of JSON's kinds) with NaN and infinities as the strings the wire uses for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value
