"""Records that disagree with each other: found, repaired, and shown again afterwards."""

from __future__ import annotations

import pytest

from doctor.conftest import Clinic
from windlassd.store.sql import SqlStore


def test_a_row_without_its_owner_moves_to_lost_and_found(clinic: Clinic) -> None:
    clinic.sql("INSERT INTO run_files (run_seq, path, size) VALUES (999, 'outputs/whose.txt', 7)")
    found = clinic.only("row_orphaned")
    assert "run_files" in found.where and "runs" in found.detail
    clinic.repaired("row_orphaned")
    assert "outputs/whose.txt" in clinic.index()
    assert clinic.sql("SELECT count(*) FROM run_files WHERE run_seq = 999") == [(0,)]


def test_text_that_is_no_json_gets_an_empty_value_and_is_kept_aside(clinic: Clinic) -> None:
    clinic.sql("UPDATE runs SET properties = '{\"half' WHERE id = ?", clinic.good)
    assert clinic.good in clinic.only("record_unreadable").where
    clinic.repaired("record_unreadable")
    assert '{\\"half' in clinic.index()


def test_a_definition_that_is_no_json_stays_and_says_so(clinic: Clinic) -> None:
    clinic.sql("UPDATE run_specs SET spec = 'junk' WHERE run_seq = 1")
    found = clinic.left("record_unreadable")
    assert not found.repair and "backup" in found.advice and found.is_problem


def test_a_definition_of_another_shape_is_found_by_deep(clinic: Clinic) -> None:
    clinic.sql('UPDATE run_specs SET spec = \'{"experiment": "test"}\' WHERE run_seq = 1')
    assert clinic.doctor() == []
    assert clinic.left("record_unreadable", deep=True).is_problem


def test_a_status_that_there_is_not_stays_and_says_so(clinic: Clinic) -> None:
    clinic.sql("UPDATE runs SET status = 'Sleeping' WHERE id = ?", clinic.bad)
    found = clinic.doctor()
    assert {"record_unreadable", "run_history"} <= {f.code for f in found}
    assert any("Sleeping" in f.detail for f in found)


def test_a_run_without_definition_is_shown_again(clinic: Clinic) -> None:
    clinic.sql("DELETE FROM run_specs WHERE run_seq = 1")
    assert clinic.only("run_spec_missing").where == clinic.good
    clinic.repaired("run_spec_missing")
    store = SqlStore.open(str(clinic.dir))
    assert {run.id for run in store.read(lambda tx: tx.list_runs())} == {clinic.good, clinic.bad}
    store.close()


def test_a_counter_that_would_give_a_number_twice(clinic: Clinic) -> None:
    clinic.sql("UPDATE experiments SET runs = 1")
    assert clinic.only("experiment_counter").where == "test"
    clinic.repaired("experiment_counter")
    assert clinic.sql("SELECT runs FROM experiments") == [(2,)]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM run_tags WHERE key = 'kind'",
        "UPDATE run_tags SET value = 'changed' WHERE key = 'kind'",
        "INSERT INTO run_tags VALUES (1, 'nobody', 'set it')",
    ],
)
def test_the_index_of_tags(clinic: Clinic, damage: str) -> None:
    clinic.sql(damage)
    assert clinic.only("tag_index").where == clinic.good
    clinic.repaired("tag_index")
    store = SqlStore.open(str(clinic.dir))
    assert [run.id for run in store.read(lambda tx: tx.list_runs(tags=[("kind", "base")]))] == [clinic.good]
    assert store.read(lambda tx: tx.list_runs(tags=[("nobody", None)])) == ()
    store.close()


def test_an_end_without_its_time(clinic: Clinic) -> None:
    ((before,),) = clinic.sql("SELECT ended FROM runs WHERE id = ?", clinic.bad)
    clinic.sql("UPDATE runs SET ended = NULL WHERE id = ?", clinic.bad)
    assert {f.code for f in clinic.doctor()} == {"run_times", "run_waits"}
    found = {f.code: f.state for f in clinic.doctor(repair=True)}
    assert found == {"run_times": "repaired"}
    assert clinic.sql("SELECT ended FROM runs WHERE id = ?", clinic.bad) == [(before,)]


def test_a_history_without_its_end(clinic: Clinic) -> None:
    clinic.sql("DELETE FROM run_history WHERE run_seq = 1 AND status = 'Completed'")
    assert "Completed" in clinic.only("run_history").detail
    clinic.repaired("run_history")
    assert clinic.sql("SELECT status, reason_code FROM run_history WHERE run_seq = 1 ORDER BY id DESC LIMIT 1") == [
        ("Completed", "completed")
    ]


def test_a_step_that_is_not_allowed_stays_and_says_so(clinic: Clinic) -> None:
    clinic.sql("UPDATE run_history SET status = 'Failed' WHERE run_seq = 1 AND status = 'Running'")
    found = clinic.left("run_history")
    assert "Failed, Finalizing, Completed" in found.detail and not found.repair
