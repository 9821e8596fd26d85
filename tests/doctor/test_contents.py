"""Blobs against snapshots and models, and kept files against records."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from doctor.conftest import Clinic

LONG_AGO = 1_000_000_000


def blob(clinic: Clinic, content: bytes) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    return clinic.dir / "blobs" / sha256[:2] / sha256[2:]


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def source_of(clinic: Clinic) -> Path:
    """The blob of the good run's script."""
    ((files,),) = clinic.sql(
        "SELECT files FROM snapshots WHERE id = (SELECT json_extract(spec, '$.snapshot_id') FROM run_specs"
        " WHERE run_seq = 1)"
    )
    sha256 = json.loads(files)[0]["sha256"]
    return clinic.dir / "blobs" / sha256[:2] / sha256[2:]


def test_a_snapshot_without_its_content_stays_until_it_is_submitted_again(clinic: Clinic) -> None:
    source_of(clinic).unlink()
    found = clinic.left("snapshot_incomplete")
    assert "train.py" in found.detail and "Submit the same folder again" in found.advice


def test_a_model_gets_its_content_back_from_the_run_that_made_it(clinic: Clinic) -> None:
    weights = blob(clinic, b"weights" * 100)
    weights.unlink()
    assert clinic.only("model_incomplete").where == "weights:1"
    clinic.repaired("model_incomplete")
    assert weights.read_bytes() == b"weights" * 100


def test_a_model_that_nothing_else_has_stays_incomplete(clinic: Clinic) -> None:
    blob(clinic, b"weights" * 100).unlink()
    rewrite(clinic.run("files", "outputs", "model", "weights.bin"), b"other")
    found = {f.code: f.state for f in clinic.doctor(repair=True)}
    assert found == {"model_incomplete": "open", "kept_file_changed": "open"}


def test_a_blob_of_another_size_is_found_without_reading_it(clinic: Clinic) -> None:
    rewrite(blob(clinic, b"weights" * 100), b"weights")
    assert clinic.only("blob_damaged").code == "blob_damaged"
    clinic.repaired("blob_damaged")
    assert len(clinic.lost()) == 1


def test_a_sound_blob_stays_though_the_list_has_another_size(clinic: Clinic) -> None:
    clinic.sql("UPDATE models SET files = json_remove(json_set(files, '$[0].size', 1), '$[1].size')")
    assert "blob_damaged" not in {finding.code for finding in clinic.doctor(repair=True, deep=True)}
    assert blob(clinic, b"weights" * 100).exists() and clinic.lost() == []


def test_a_blob_of_the_same_size_is_found_by_deep(clinic: Clinic) -> None:
    weights = blob(clinic, b"weights" * 100)
    rewrite(weights, b"wEights" * 100)
    assert clinic.doctor() == []
    clinic.only("blob_damaged", deep=True)
    clinic.repaired("blob_damaged", deep=True)
    assert weights.read_bytes() == b"weights" * 100 and len(clinic.lost()) == 1


def test_a_damaged_source_moves_away_so_that_it_can_be_sent_again(clinic: Clinic) -> None:
    source = source_of(clinic)
    rewrite(source, b"x" * source.stat().st_size)
    found = {f.code: f.state for f in clinic.doctor(repair=True, deep=True)}
    assert found == {"blob_damaged": "repaired", "snapshot_incomplete": "open"}
    assert not source.exists() and len(clinic.lost()) == 1


def test_a_blob_that_nothing_uses_goes_after_a_day(clinic: Clinic) -> None:
    stray = blob(clinic, b"stray")
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    assert clinic.doctor() == [], "somebody may be about to use it"
    os.utime(stray, (LONG_AGO, LONG_AGO))
    assert not clinic.only("blob_unused").is_problem
    clinic.repaired("blob_unused")
    assert not stray.exists()


def test_an_old_blob_in_use_stays(clinic: Clinic) -> None:
    for path in (clinic.dir / "blobs").rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    clinic.repaired()


def test_what_a_killed_writer_of_blobs_left(clinic: Clinic) -> None:
    left = clinic.dir / "blobs" / "tmp" / ("0" * 32)
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "0").write_bytes(b"half")
    clinic.only("blob_leftover")
    clinic.repaired("blob_leftover")
    assert not left.exists()


def test_a_kept_file_comes_back_from_the_model_that_has_its_content(clinic: Clinic) -> None:
    kept = clinic.run("files", "outputs", "model", "weights.bin")
    kept.unlink()
    assert "outputs/model/weights.bin" in clinic.only("kept_file_missing").detail
    clinic.repaired("kept_file_missing")
    assert kept.read_bytes() == b"weights" * 100 and kept.stat().st_mode & 0o222 == 0


def test_a_kept_file_that_nothing_else_has_stays_missing(clinic: Clinic) -> None:
    clinic.run("files", "outputs", "notes.txt").unlink()
    found = clinic.left("kept_file_missing")
    assert not found.repair and "backup" in found.advice


@pytest.mark.parametrize(("content", "deep"), [(b"short", False), (b"wEights" * 100, True)])
def test_a_changed_kept_file_comes_back_and_the_changed_one_is_kept(clinic: Clinic, content: bytes, deep: bool) -> None:
    kept = clinic.run("files", "outputs", "model", "weights.bin")
    rewrite(kept, content)
    clinic.only("kept_file_changed", deep=deep)
    clinic.repaired("kept_file_changed", deep=deep)
    assert kept.read_bytes() == b"weights" * 100
    assert (clinic.dir / "lost+found" / clinic.lost()[0]).read_bytes() == content


def test_files_of_one_run_are_one_finding(clinic: Clinic) -> None:
    for name in ("notes.txt", "model/weights.bin"):
        clinic.run("files", "outputs", name).unlink()
    found = clinic.doctor()
    assert [f.code for f in found] == ["kept_file_missing"] and "2 files" in found[0].detail


def test_a_file_that_the_record_lacks_is_listed(clinic: Clinic) -> None:
    clinic.run("files", "outputs", "extra.txt").write_text("extra")
    assert clinic.doctor() == []
    assert "outputs/extra.txt" in clinic.only("file_unlisted", deep=True).detail
    clinic.repaired("file_unlisted", deep=True)
    assert clinic.sql("SELECT sha256 FROM run_files WHERE path = 'outputs/extra.txt'") == [
        (hashlib.sha256(b"extra").hexdigest(),)
    ]


def test_checksums_that_nobody_computed(clinic: Clinic) -> None:
    before = clinic.sql("SELECT path, sha256 FROM run_files ORDER BY run_seq, path")
    clinic.sql("UPDATE run_files SET sha256 = NULL")
    clinic.sql("UPDATE runs SET verified = 0")
    assert {(f.code, f.is_problem) for f in clinic.doctor()} == {("checksum_missing", False)}
    clinic.repaired("checksum_missing", "checksum_missing")
    assert clinic.sql("SELECT path, sha256 FROM run_files ORDER BY run_seq, path") == before


def test_the_folder_of_a_run_without_record_moves_to_lost_and_found(clinic: Clinic) -> None:
    folder = clinic.dir / "runs" / "whose_1_0"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "result.txt").write_text("precious")
    clinic.only("run_folder_orphan")
    clinic.repaired("run_folder_orphan")
    assert not folder.exists()
    (found,) = clinic.lost()
    assert (clinic.dir / "lost+found" / found).read_text() == "precious" and "whose_1_0" in clinic.index()


def test_what_an_agent_killed_at_the_very_end_left(clinic: Clinic) -> None:
    clinic.run("agent").mkdir()
    clinic.run("agent", "launch.json").write_text("{}")
    outputs = clinic.run("work", "outputs")
    outputs.mkdir(parents=True)
    (outputs / "late.txt").write_text("late")
    assert not clinic.doctor()[0].is_problem
    found = [(f.code, f.state) for f in clinic.doctor(repair=True, deep=True)]
    assert found == [("run_not_cleared", "repaired"), ("file_unlisted", "repaired")]
    assert clinic.run("files", "outputs", "late.txt").read_text() == "late" and not clinic.run("work").exists()
    assert clinic.doctor(deep=True) == []


def test_a_working_folder_that_was_left_on_purpose_stays(clinic: Clinic) -> None:
    clinic.run("work").mkdir()
    clinic.run("work", "result.txt").write_text("not copied back")
    clinic.sql("UPDATE runs SET reason_code = 'data_not_kept' WHERE id = ?", clinic.good)
    assert clinic.doctor(repair=True, deep=True) == []
    assert clinic.run("work", "result.txt").exists()


def test_the_folder_of_a_client_is_never_emptied(clinic: Clinic, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "mine.txt").write_text("mine")
    clinic.run("work").symlink_to(tmp_path)
    found = {f.code: f.state for f in clinic.doctor(repair=True)}
    assert found["run_not_cleared"] == "repaired"
    assert (tmp_path / "outputs" / "mine.txt").read_text() == "mine" and not clinic.run("work").is_symlink()


def test_uploads_that_were_cut_short(clinic: Clinic) -> None:
    part = clinic.dir / "uploads" / ("a" * 64)
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"half")
    assert clinic.doctor() == [], "its client may go on sending"
    os.utime(part, (LONG_AGO, LONG_AGO))
    clinic.only("upload_leftover")
    clinic.repaired("upload_leftover")
    clinic.run("files", "outputs", "big.bin.1a2b3c4d.windlass-part").write_bytes(b"half")
    clinic.only("upload_leftover", deep=True)
    clinic.repaired("upload_leftover", deep=True)
