"""Old lists as of their time: the packages that they name without a version, or only bring along, as they were then.

A list of 2019 pins ``tensorflow==1.15`` and leaves protobuf open; what is newest for its Python today came years later
and breaks it at import. So when the pins of a list chose an old Python, the rest is taken as of shortly after the
newest of those pins.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from windlassd.envs._compile import Compiler, Extra
from windlassd.envs._requirements import requirement_name
from windlassd.envs._resolved import Resolved
from windlassd.envs._uv_errors import UvFailed

_NEWEST_PYTHON = (3, 10)
"""Lists that fit newer ones are not old."""
_OLD = "2022-07-01"
"""Pins newer than this were made for packages that still fit together with today's."""
_AFTER = timedelta(days=60)
"""The list was written at some time after its newest pin came out."""
_BREAKING = "2022-01-15"
"""Soon after it came protobuf 4, Jinja 3.1, MarkupSafe 2.1, Click 8.1 and NumPy 1.24, which break most old lists."""
_TODAY = "false"
"""What uv takes for no date at all."""
_FIRST = "2010-01-01"
_MOST_PROBES = 40
_WHEELS_LATER = ("absl-py", "dill", "future", "googleapis-common-protos", "opt-einsum", "sacremoses", "termcolor",
                 "wrapt")  # fmt: skip
"""They had sources alone then, and today's serve as well; a round of resolving less for each. Others are found."""
_CAN_BUILD = bool(shutil.which("cc"))
_PUBLISHED = re.compile(r"was published at (\d{4}-\d\d-\d\d)")
_EXACT = re.compile(r"==(?!=)")


def of_its_time(found: Resolved, compiler: Compiler, *, fell_back: bool) -> Resolved:
    """The list as of its time when it is an old one and fits so; else ``found``.

    Args:
        found: The list with today's newest.
        compiler: Of the list.
        fell_back: True when newer Pythons were tried and did not fit.
    """
    want = compiler.want
    asked = fell_back or want.python is not None
    if not asked or found.python.numbers[:2] > _NEWEST_PYTHON or compiler.index.environment.get("UV_EXCLUDE_NEWER"):
        return found
    newest = _newest(compiler, found, _pinned(found, want.requirements))
    if newest is None:
        return found
    compiler.work.log(f"The newest version that the list names is of {newest}: resolving the rest as of then.")
    soon = (datetime.fromisoformat(newest) + _AFTER).date().isoformat()
    then = _then(found, compiler, min(soon, _BREAKING)) or _then(found, compiler, _BREAKING)
    if then is None or list(then.pins) == list(found.pins):
        return found
    until = then.extra.exclude_newer
    note = (
        f"The newest version that the list names is of {newest}, so what it leaves open is taken as of {until}: later "
        "packages break such lists. setuptools comes along, as every environment had it then. Name a version to have "
        "another, or set UV_EXCLUDE_NEWER where the server runs."
    )
    return replace(then, notes=(*found.notes, note))


def _then(found: Resolved, compiler: Compiler, until: str) -> Resolved | None:
    """The list as of the day ``until``, but for projects that had no wheels then: those a little newer.

    Packages of those days import ``pkg_resources`` without a word in their metadata.
    """
    but = {name: _TODAY for name, _ in found.versions() if name in _WHEELS_LATER}
    source = found.source
    want = compiler.want
    if not any(requirement_name(text) == "setuptools" for text in want.requirements):
        compiler = replace(compiler, want=replace(want, requirements=(*want.requirements, "setuptools")))
    for _ in range(_MOST_PROBES):
        extra = replace(found.extra, exclude_newer=until, but=tuple(sorted(but.items())))
        try:
            pins, left_out = compiler.resolved(found.python, source, extra)
        except UvFailed as failure:
            newer = {name: _later(but.get(name, until)) for name in failure.unbuilt if but.get(name) != _TODAY}
            built = {requirement_name(text) for text in failure.unwheeled} - (source or set()) if _CAN_BUILD else set()
            if newer:
                but.update(newer)
            elif source is not None and built:
                source = source | built  # a version that is wanted exactly and never had wheels
            else:
                return None
        else:
            return replace(found, pins=pins, left_out=left_out, extra=extra, source=source)
    return None


def _later(date: str) -> str:
    """The date to which a project may be newer that had no wheels as of ``date``."""
    return _BREAKING if date < _BREAKING else _TODAY


def _pinned(found: Resolved, requirements: Sequence[str]) -> Sequence[str]:
    """The versions that were found for what the list pins."""
    names = {requirement_name(text) for text in requirements if _EXACT.search(text.partition(";")[0])}
    return [f"{name}=={version}" for name, version in found.versions() if name in names and "+" not in version]


def _newest(compiler: Compiler, found: Resolved, pins: Sequence[str]) -> str | None:
    """The day on which the newest of ``pins`` was uploaded; None for a list that is not old, or if uv cannot tell."""
    if not pins or compiler.alone(found.python, pins, found.source, Extra(exclude_newer=_OLD)):
        return None
    day = _FIRST
    for _ in range(_MOST_PROBES):
        failure = compiler.alone(found.python, pins, found.source, Extra(exclude_newer=day))
        if failure is None:
            return None if day == _FIRST else day
        later = max(_PUBLISHED.findall(failure.said), default="")
        if later <= day:
            return None
        day = later
    return None
