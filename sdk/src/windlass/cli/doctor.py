"""``windlass doctor``: find what is wrong with a workspace, and repair what can be repaired."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, List

import typer

from windlass.cli._options import AsJson, WorkspaceName
from windlass.cli._session import workspace_folder
from windlass.cli._show import as_json, plain, result, say

if TYPE_CHECKING:
    from windlass.specs.findings import Finding

_PROBLEMS_LEFT, _COULD_NOT = 1, 2


def doctor(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Repair what can be; nothing is deleted that anything needs or nobody knows."),
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Compare contents with checksums, and points with their summaries.")
    ] = False,
    json: AsJson = False,
    workspace: WorkspaceName = None,
) -> None:
    """Find what is wrong with a workspace, its home and this machine.

    Works while runs go on, and when the server cannot start. Exit code 1 when problems are left, 2 when the doctor
    itself could not work. docs/doctor.md lists all that it can find.
    """
    from windlass.errors import AzureMLException

    folder = workspace_folder(workspace)
    found: "List[Finding]" = []
    try:
        _listen(folder, repair, deep, json, found)
    except (AzureMLException, OSError) as problem:
        say("windlass: %s" % problem)
        raise typer.Exit(_COULD_NOT) from None
    if json:
        _as_json(folder, found)
    else:
        _sum_up(folder, repair, found)
    if any(finding.is_problem for finding in found):
        raise typer.Exit(_PROBLEMS_LEFT)


def _listen(folder: str, repair: bool, deep: bool, quiet: bool, found: "List[Finding]") -> None:
    from windlass._doctor import examine
    from windlass.specs.findings import Finding

    for line in examine(folder, repair=repair, deep=deep):
        if "finding" in line:
            found.append(Finding.from_wire(line["finding"]))
            if not quiet:
                _show(found[-1])
        elif "checking" in line and not quiet:
            say("Checking %s" % line["checking"], "dim")


def _show(finding: "Finding") -> None:
    from windlass.specs.findings import REPAIRED

    repaired = finding.state == REPAIRED
    result("%s  %s  %s" % ("repaired" if repaired else finding.severity, finding.code, plain(finding.where)))
    result("  %s" % plain(finding.detail))
    if repaired:
        return
    result("  %s" % finding.means)
    if finding.repair:
        result("  --repair: %s" % finding.repair)
    if finding.advice:
        result("  You can: %s" % finding.advice)


def _as_json(folder: str, found: "List[Finding]") -> None:
    from windlass.specs._codec import to_wire
    from windlass.specs.findings import NOTE, OPEN, REPAIRED

    as_json({
        "workspace": os.path.basename(folder), "workspace_dir": folder, "findings": [to_wire(f) for f in found],
        "problems": sum(f.is_problem for f in found),
        "notes": sum(f.state == OPEN and f.severity == NOTE for f in found),
        "repaired": sum(f.state == REPAIRED for f in found),
    })  # fmt: skip


def _sum_up(folder: str, repair: bool, found: "List[Finding]") -> None:
    from windlass.specs.findings import OPEN, REPAIRED

    left = [f for f in found if f.state == OPEN]
    problems, mendable = sum(f.is_problem for f in found), sum(bool(f.repair) for f in left)
    words = [_count(problems, "problem")] if problems or not left else []
    if len(left) > problems:
        words.append(_count(len(left) - problems, "note"))
    repaired = sum(f.state == REPAIRED for f in found)
    if repaired:
        words.append("%d repaired" % repaired)
    hint = ". `windlass doctor --repair` can repair %d of them" % mendable if mendable and not repair else ""
    result("%s: %s%s." % (os.path.basename(folder), ", ".join(words), hint))


def _count(number: int, what: str) -> str:
    return "no %s" % what if not number else "1 %s" % what if number == 1 else "%d %ss" % (number, what)
