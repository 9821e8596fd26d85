"""Outside any run scripts go on: what they log is printed and kept."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from windlass import Run
from windlass._offline_folder import offline_runs
from windlass.errors import NotOffered, RunEnvironmentException, UserErrorException


def test_it_prints_and_keeps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Run.get_context() as run:
        assert run.id.startswith("OfflineRun_") and not hasattr(run, "experiment") and run.status == "Running"
        run.log("loss", 0.5, step=1)
        run.log("loss", 0.25)
        run.log_row("row", x=1)
        run.log_list("list", [1, 2])
        run.log_table("table", {"x": [1, 2]})
        run.tag("kind")
        run.add_properties({"a": 1})
        run.upload_file("outputs/x.txt", io.StringIO("text"))
        run.download_file("outputs/x.txt")
        run.flush()
    assert "Attempted to log scalar metric loss:\n0.5\n" in capsys.readouterr().out
    assert run.get_metrics() == {"loss": [0.5, 0.25], "row": {"x": 1}, "list": [1, 2], "table": {"x": [1, 2]}}
    assert (run.tags, run.properties, run.get_status()) == ({"kind": ""}, {"a": "1"}, "Completed")
    assert (tmp_path / "x.txt").read_text() == "text" and run.get_file_names() == ["outputs/x.txt"]


def test_errors_are_those_of_a_real_run() -> None:
    run = Run.get_context()
    with pytest.raises(UserErrorException, match="type object"):
        run.log("x", object())
    with pytest.raises(UserErrorException, match="cannot name"):
        run.upload_file("../x", io.BytesIO())
    with pytest.raises(RunEnvironmentException, match=r"experiment.submit"):
        run.register_model("m")
    with pytest.raises(UserErrorException, match="No such file"):
        run.log_image("i", "x.png")
    with pytest.raises(NotOffered, match="needs a workspace"):
        run.submit_child(None)
    run.add_properties({"a": 1})
    with pytest.raises(UserErrorException, match="never change"):
        run.add_properties({"a": 1})
    with pytest.raises(ZeroDivisionError), run:
        _ = 1 / 0
    assert run.status == "Failed"


def test_it_stays_on_disk_for_a_replay(home: Path, tmp_path: Path) -> None:
    Run.get_context()
    assert offline_runs() == [], "a script that only asks for its context leaves nothing behind"
    run = Run.get_context()
    run.log("loss", 0.5)
    run.display_name, run.description = "local try", "on my laptop"
    run.upload_file("outputs/x.txt", io.BytesIO(b"content"))
    child = run.child_run("kid")
    child.log("loss", 1)
    (state, of_child) = offline_runs()
    assert (state["id"], state["display_name"], state["status"]) == (run.id, "local try", "Running")
    assert of_child["parent"] == run.id and child.parent is run and list(run.get_children(status="Running")) == [child]
    folder = home / "offline" / run.id
    assert (folder / "files/outputs/x.txt").read_bytes() == b"content"
    assert len(list((folder / "spool").glob("*.spool"))) == 1
    assert run.get_metrics(recursive=True) == {"loss": [0.5, 1]}
    run.download_files("outputs", str(tmp_path / "down"))
    assert (tmp_path / "down/outputs/x.txt").read_bytes() == b"content"


def test_a_home_that_cannot_be_written_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WINDLASS_HOME", str(tmp_path / "file"))
    run = Run.get_context()
    run.log("loss", 0.5)
    run.tag("kind", "x")
    run.complete()
    assert run.get_metrics() == {"loss": 0.5} and run.tags == {"kind": "x"}
    assert capsys.readouterr().err.count("cannot be kept") == 1
