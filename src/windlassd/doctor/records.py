"""The records of the database: whether they can be read and agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from windlassd.doctor.patient import Patient, Problem
from windlassd.store import audit


def orphans(patient: Patient) -> Iterator[Problem]:
    """Rows whose owner is gone."""
    for table, rowid, parent, row in patient.ask(lambda db: list(audit.orphan_rows(db))):

        def mend(table: str = table, rowid: int = rowid, row: Mapping[str, Any] = row) -> None:
            patient.lost.keep("row_orphaned", {"table": table, **row})
            patient.tell(lambda db: audit.drop_row(db, table, rowid))

        detail = f"Row {rowid} of {table} belongs to no row of {parent}."
        yield Problem("row_orphaned", f"{table} {rowid}", detail, mend)


def texts(patient: Patient) -> Iterator[Problem]:
    """Columns that cannot be read."""
    for found in patient.ask(lambda db: list(audit.unreadable(db, patient.deep))):

        def mend(found: audit.Unreadable = found) -> None:
            patient.lost.keep("record_unreadable", found._asdict())
            patient.tell(lambda db: audit.put_text(db, found))

        where = f"{found.table} {found.name}: {found.column}"
        detail = f"The {found.column} of {found.name} in {found.table} cannot be read: {found.text[:60]!r}."
        yield Problem("record_unreadable", where, detail, None if found.empty is None else mend)


def definitions(patient: Patient) -> Iterator[Problem]:
    """Runs without a definition."""
    for run_id in patient.ask(audit.runs_without_spec):
        mend = _told(patient, partial(audit.give_empty_spec, run_id=run_id))
        yield Problem("run_spec_missing", run_id, f"{run_id} has no definition.", mend)


def counters(patient: Patient) -> Iterator[Problem]:
    """Experiments' counters of runs."""
    for name, counted, highest in patient.ask(audit.miscounted_experiments):
        detail = f"The experiment {name!r} counted {counted} runs and has one numbered {highest}."
        mend = _told(patient, partial(audit.recount_experiment, name=name, highest=highest))
        yield Problem("experiment_counter", name, detail, mend)


def tags(patient: Patient) -> Iterator[Problem]:
    """The index of tags."""
    for run_id in patient.ask(lambda db: list(audit.untagged_runs(db))):
        mend = _told(patient, partial(audit.index_tags, run_id=run_id))
        yield Problem("tag_index", run_id, f"The index of the tags of {run_id} is not what its record says.", mend)


def ends(patient: Patient) -> Iterator[Problem]:
    """Whether runs have ended, by status and by time."""
    for run_id, status, ended in patient.ask(audit.mistimed_runs):
        mend = _told(patient, partial(audit.set_end, run_id=run_id))
        told = "a time of its end" if ended else "no time of its end"
        yield Problem("run_times", run_id, f"{run_id} is {status} and has {told}.", mend)


def histories(patient: Patient) -> Iterator[Problem]:
    """Histories against the table of transitions."""
    for run_id, steps, status in patient.ask(lambda db: list(audit.broken_histories(db))):
        mend = _told(patient, partial(audit.end_history, run_id=run_id)) if steps[-1:] != [status] else None
        detail = f"{run_id} is {status}, and its history is {', '.join(steps) or 'empty'}."
        yield Problem("run_history", run_id, detail, mend)


def points(patient: Patient) -> Iterator[Problem]:
    """Metric points that cannot be unpacked."""
    for chunk_id, run_id, name, wrong in patient.ask(lambda db: list(audit.damaged_chunks(db, patient.deep))):

        def mend(chunk_id: int = chunk_id) -> None:
            row = patient.ask(lambda db: audit.chunk_row(db, chunk_id))
            if row is not None:
                patient.lost.keep("chunk_damaged", row)
                patient.tell(lambda db: audit.drop_chunk(db, chunk_id))

        where, detail = f"{run_id}: {name} ({chunk_id})", f"Points of {name!r} of {run_id}: {wrong}."
        yield Problem("chunk_damaged", where, detail, mend)


def outlines(patient: Patient) -> Iterator[Problem]:
    """What charts of long series are drawn from, against the points."""
    for chunk_id, run_id, name in patient.ask(lambda db: list(audit.wrong_outlines(db, patient.deep))):
        mend = _told(patient, partial(audit.outline_anew, chunk_id=chunk_id))
        detail = f"The outline of a part of the series {name!r} of {run_id} is not of its points."
        yield Problem("outline_wrong", f"{run_id}: {name} ({chunk_id})", detail, mend)


def summaries(patient: Patient) -> Iterator[Problem]:
    """Summaries of series against their points."""
    for series_id, run_id, name, wrong in patient.ask(lambda db: list(audit.wrong_summaries(db, patient.deep))):
        mend = _told(patient, partial(audit.summarize, series_id=series_id))
        yield Problem("summary_wrong", f"{run_id}: {name}", f"The series {name!r} of {run_id}: {wrong}.", mend)


def _told(patient: Patient, work: Callable[[Connection], Any]) -> Callable[[], None]:
    return partial(patient.tell, work)
