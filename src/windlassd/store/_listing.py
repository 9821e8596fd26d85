"""Which runs a list shows: queries for their ``seq``, each a walk down one index that stops at the list's length.

The walk begins at what is likely the fewest: the rarest tag, else the first metric, else the statuses. What else is
asked for is looked up for each run that the walk meets, never joined: a join leaves it to the planner where to begin,
and one that begins elsewhere sorts every run that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from sqlalchemy import Float, Select, case, cast, exists, func, select, union_all
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement, FromClause

from windlassd.store._columns import clean
from windlassd.store.base import MetricFilter
from windlassd.store.schema import run_tags, runs, series

_LOOK = 1000
_COMPARE = {"<": lt, "<=": le, ">": gt, ">=": ge, "=": eq, "!=": ne}
Tags = Sequence[tuple[str, "str | None"]]


@dataclass(frozen=True)
class Wanted:
    """What a run must be. ``where`` are conditions on its own row; ``statuses`` are alternatives, none is any."""

    where: Sequence[ColumnElement[bool]]
    before: int | None
    """Only runs older than the one of this ``seq``."""
    statuses: Sequence[str]
    tags: Tags
    """The rarest first."""
    metrics: Sequence[MetricFilter]


def chosen_runs(wanted: Wanted, limit: int) -> Select[Any]:
    """The ``seq`` of the newest runs that are wanted, at most ``limit``."""
    if wanted.tags:
        return _tagged(wanted, limit)
    if wanted.metrics:
        return _measured(wanted, limit)
    newest = runs.c.seq.desc()
    if len(wanted.statuses) > 1:  # the newest of each status, then the newest of those
        each = [
            select(_newest(wanted, runs.c.status == status).order_by(newest).limit(limit).subquery().c.seq)
            for status in wanted.statuses
        ]
        union = union_all(*each).subquery()
        return select(union.c.seq).order_by(union.c.seq.desc()).limit(limit)
    return _newest(wanted, *(runs.c.status == status for status in wanted.statuses)).order_by(newest).limit(limit)


def rarest_first(db: Connection, tags: Tags) -> Tags:
    """``tags`` with the one that the fewest runs have first, as far as a short look tells."""
    if len(tags) < 2:
        return tags
    looks = [select(run_tags.c.run_seq).where(*_tag_fits(run_tags, *tag)).limit(_LOOK).subquery() for tag in tags]
    counts = [db.execute(select(func.count()).select_from(look)).scalar() or 0 for look in looks]
    return [tag for _, tag in sorted(zip(counts, tags, strict=True), key=lambda pair: pair[0])]


def _newest(wanted: Wanted, *more: ColumnElement[bool]) -> Select[Any]:
    return select(runs.c.seq).where(*wanted.where, *_older(wanted, runs.c.seq), *more)


def _tagged(wanted: Wanted, limit: int) -> Select[Any]:
    """Walks down the index of the first tag."""
    first, *others = wanted.tags
    at = run_tags.c.run_seq
    walk = select(at.label("seq")).where(*_tag_fits(run_tags, *first), *_older(wanted, at), _run_fits(wanted, at))
    walk = walk.where(*(_has_tag(at, *tag) for tag in others), *(_has_metric(at, m) for m in wanted.metrics))
    return walk.order_by(at.desc()).limit(limit)


def _measured(wanted: Wanted, limit: int) -> Select[Any]:
    """Walks down the index of the first metric's name."""
    first, *others = wanted.metrics
    at = series.c.run_seq
    walk = select(at.label("seq")).where(*_metric_fits(series, first), *_older(wanted, at), _run_fits(wanted, at))
    return walk.where(*(_has_metric(at, m) for m in others)).order_by(at.desc()).limit(limit)


def _older(wanted: Wanted, at: ColumnElement[int]) -> list[ColumnElement[bool]]:
    return [] if wanted.before is None else [at < wanted.before]


def _run_fits(wanted: Wanted, at: ColumnElement[int]) -> ColumnElement[bool]:
    conditions = [*wanted.where, *([runs.c.status.in_(wanted.statuses)] if wanted.statuses else [])]
    return exists().where(runs.c.seq == at, *conditions)


def _has_tag(at: ColumnElement[int], key: str, value: str | None) -> ColumnElement[bool]:
    other = run_tags.alias()
    return exists().where(other.c.run_seq == at, *_tag_fits(other, key, value))


def _has_metric(at: ColumnElement[int], wanted: MetricFilter) -> ColumnElement[bool]:
    other = series.alias()
    return exists().where(other.c.run_seq == at, *_metric_fits(other, wanted))


def _tag_fits(table: FromClause, key: str, value: str | None) -> list[ColumnElement[bool]]:
    fits = [table.c.key == clean(key)]
    return fits if value is None else [*fits, table.c.value == clean(value)]


def _metric_fits(table: FromClause, wanted: MetricFilter) -> list[ColumnElement[bool]]:
    fits = [table.c.name == clean(wanted.name)]
    if wanted.statistic == "last":
        fits.append(table.c.type.in_(("int", "float")))
    number = {"last": _last(table), "min": table.c.minimum, "max": table.c.maximum}[wanted.statistic]
    return [*fits, _COMPARE[wanted.comparison](number, wanted.value)]


def _last(table: FromClause) -> ColumnElement[float]:
    """The last value, which lies there as JSON text, as a number; NULL for NaN, which no comparison holds for."""
    infinity = float("inf")
    special = {"NaN": None, "Infinity": infinity, "-Infinity": -infinity}
    return case(special, value=table.c.last, else_=cast(table.c.last, Float(53)))
