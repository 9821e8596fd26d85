"""One examination: every check in its order, what it found made sure of, repaired when asked, and told."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.errors import AzureMLException, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.findings import NOTE, OPEN, REPAIRED, Finding, finding
from windlassd.doctor import contents, database, environments, files, home, machine, on_the_way, processes, records
from windlassd.doctor.patient import Check, Patient, Problem
from windlassd.store.base import StoreError
from windlassd.store.sql import SqlStore

log = logging.getLogger(__name__)
Tell = Callable[[Mapping[str, Any]], None]

MACHINE, DATABASE = "machine", "database"
WITHOUT_RECORDS: Mapping[str, Sequence[Check]] = {
    MACHINE: (
        machine.installation, machine.file_systems, machine.folders, machine.server_socket, machine.silent_server,
        machine.gpus,
    ),
    DATABASE: (database.file, database.copies),
}  # fmt: skip
"""Checks that need no records, by theme."""
WITH_RECORDS: Mapping[str, Sequence[Check]] = {
    "records": (
        records.orphans, records.texts, records.definitions, records.counters, records.tags, records.ends,
        records.histories,
    ),
    "processes": (machine.clock, machine.agent, processes.leftovers, on_the_way.unfinished),
    "metrics": (on_the_way.spools, on_the_way.clients, records.points, records.summaries, records.outlines),
    "blobs": (contents.damaged, contents.incomplete, contents.unused, contents.unfinished),
    "files": (files.orphans, files.uncleared, files.uploads, files.kept, files.unlisted, files.unverified),
}  # fmt: skip
"""Checks of the records and of what they promise. What one repairs the later ones build on."""
OF_THE_HOME: Mapping[str, Sequence[Check]] = {
    "environments": (environments.broken, environments.unfinished, environments.notes, environments.sdk_copies),
    "home": (home.offline_runs, home.temporary_files),
}
_LOOK_AGAIN_S = (0.2, 1.0)
"""Pauses after which a finding must still be there, while others work on the workspace."""


class Examination:
    """Examines a patient once.

    Args:
        patient: The workspace. Its store is opened here when it has none and the database is good.
        repair: Repair what can be.
        tell: Gets ``{"checking": theme}``, ``{"finding": …}`` and at the end ``{"done": counts}``.
        pause: Waits so many seconds.
    """

    def __init__(
        self, patient: Patient, *, repair: bool, tell: Tell, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._patient = patient
        self._repair = repair
        self._tell = tell
        self._pause = pause
        self.findings: list[Finding] = []

    def run(self) -> Sequence[Finding]:
        """All findings, in the order of the checks."""
        opened = None
        try:
            self._themes(WITHOUT_RECORDS)
            blocked = {found.code for found in self.findings if found.state == OPEN} & database.UNUSABLE
            if self._patient.store is None and not blocked:
                opened = self._patient.store = self._opened()
            if self._patient.store is not None and not blocked:
                self._themes(WITH_RECORDS)
            self._themes(OF_THE_HOME)
        finally:
            if opened is not None:
                self._patient.store = None
                opened.close()
        counts = {
            "problems": sum(found.is_problem for found in self.findings),
            "notes": sum(found.severity == NOTE and found.state == OPEN for found in self.findings),
            "repaired": sum(found.state == REPAIRED for found in self.findings),
        }
        self._tell({"done": counts})
        return self.findings

    def _themes(self, themes: Mapping[str, Sequence[Check]]) -> None:
        for theme, checks in themes.items():
            self._tell({"checking": theme})
            for check in checks:
                self._check(check)

    def _opened(self) -> SqlStore | None:
        if not os.path.exists(self._patient.database):
            return None
        try:
            return SqlStore.open(self._patient.workspace_dir)
        except (StoreError, UserErrorException, OSError) as problem:
            self._found(Problem("database_closed", "windlass.db", str(problem)), OPEN)
            return None

    def _check(self, check: Check) -> None:
        problems = self._sure_of(check)
        failed: dict[tuple[str, str], str] = {}
        if self._repair and any(problem.mend for problem in problems.values()):
            for problem in problems.values():
                if problem.mend is not None and (said := _mended(problem)):
                    failed[problem.key] = said
            left: Mapping[tuple[str, str], Problem] = {problem.key: problem for problem in self._look(check)}
        else:
            left = problems
        for key, problem in problems.items():
            if key not in left:
                self._found(problem, REPAIRED)
            else:
                why = f" It could not be repaired: {failed[key]}" if key in failed else ""
                self._found(replace(problem, detail=left[key].detail + why), OPEN)

    def _sure_of(self, check: Check) -> Mapping[tuple[str, str], Problem]:
        """What the check finds, and finds again when others may be in the middle of something."""
        found = {problem.key: problem for problem in self._look(check)}
        for pause_s in () if self._patient.alone else _LOOK_AGAIN_S:
            if not found:
                break
            self._pause(pause_s)
            again = {problem.key: problem for problem in self._look(check)}
            found = {key: again[key] for key in found if key in again}
        return found

    def _look(self, check: Check) -> Sequence[Problem]:
        try:
            return list(check(self._patient))
        except StoreError as problem:
            code = "database_locked" if problem.transient else "database_damaged"
            return [Problem(code, "windlass.db", f"While it was examined: {problem}")]
        except OSError as problem:
            where = str(problem.filename or self._patient.workspace_dir)
            return [Problem("folder_closed", where, f"It cannot be examined: {problem}.")]

    def _found(self, problem: Problem, state: str) -> None:
        found = finding(problem.code, problem.where, problem.detail, mendable=problem.mend is not None, state=state)
        self.findings.append(found)
        self._tell({"finding": to_wire(found)})


def _mended(problem: Problem) -> str:
    """Repair; what went wrong, or nothing."""
    assert problem.mend is not None
    try:
        problem.mend()
    except (OSError, AzureMLException) as failure:
        log.warning("%s at %s could not be repaired", problem.code, problem.where, exc_info=True)
        return str(failure)
    log.info("repaired: %s at %s", problem.code, problem.where)
    return ""
