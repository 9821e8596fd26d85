"""A healthy workspace has nothing to tell of."""

from __future__ import annotations

from doctor.conftest import Clinic


def test_nothing_is_found_and_nothing_changes(clinic: Clinic) -> None:
    before = {path: path.stat().st_mtime_ns for path in clinic.dir.rglob("*") if "windlass.db" not in path.name}
    assert clinic.doctor(deep=True) == []
    assert clinic.doctor(repair=True, deep=True) == []
    after = {path: path.stat().st_mtime_ns for path in clinic.dir.rglob("*") if "windlass.db" not in path.name}
    assert after == before
