"""A run's folder: no name or link leads out, and nothing kept is lost on the way to the history."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.blobs.run_folder import RunFolder, sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(str(tmp_path / "ws"), "run_1")
    made.make()
    for name in ("outputs", "logs"):
        Path(made.work, name).mkdir(parents=True)
    return made


def put(root: str, name: str, text: str = "text") -> Path:
    path = Path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(folder: RunFolder) -> list[str]:
    return [f["path"] for f in folder.list()]


@pytest.mark.parametrize("run_id", ["", "..", ".", "a/b", "../other", ".hidden"])
def test_a_run_id_is_one_name(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UserErrorException, match="not the id of a run"):
        RunFolder(str(tmp_path), run_id)


OUT = ["../x", "a/../../x", "/etc/passwd", "..", "", ".", "a\\..\\..\\x", "\\..\\x", "a\0b", "outputs/../../../x"]


@pytest.mark.parametrize("name", OUT)
def test_names_that_lead_out_are_refused(folder: RunFolder, name: str) -> None:
    for call in (folder.log, folder.find, folder.get):
        with pytest.raises(UserErrorException, match="must be relative"):
            call(name)


def test_the_folders_are_the_users_own(folder: RunFolder) -> None:
    for path in (folder.files, folder.spool, folder.agent):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_a_link_in_the_middle_leads_nowhere_and_makes_nothing(folder: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    os.makedirs(os.path.join(folder.files, "outputs"))
    os.symlink(outside, os.path.join(folder.files, "outputs", "out"))
    with pytest.raises(UserErrorException, match="leads out"):
        folder.log("outputs/out/new/file")
    assert os.listdir(outside) == ["secret"]
    assert folder.find("outputs/out/secret") is None and names(folder) == []


def test_uploads_and_outputs_are_one_list(folder: RunFolder) -> None:
    put(folder.files, "plots/loss.png", "12345")
    put(folder.work, "outputs/model.bin", "123")
    put(folder.work, "logs/note.txt", "1")
    put(folder.work, "scratch.txt")
    assert folder.list() == [
        {"path": "logs/note.txt", "size": 1}, {"path": "outputs/model.bin", "size": 3},
        {"path": "plots/loss.png", "size": 5},
    ]  # fmt: skip
    assert folder.find("scratch.txt") is None and folder.find("outputs") is None


def test_v1s_other_name_of_the_log(folder: RunFolder) -> None:
    driver = put(folder.files, "azureml-logs/70_driver_log.txt")
    second = put(folder.files, "azureml-logs/70_driver_log_1.txt")
    assert folder.find("user_logs/std_log.txt") == str(driver)
    assert folder.get("user_logs/std_log_1.txt") == str(second)


def test_logs_in_their_order(folder: RunFolder) -> None:
    for name in ("70_driver_log.txt", "20_image_build_log.txt"):
        put(folder.files, f"azureml-logs/{name}")
    os.symlink("/etc/passwd", os.path.join(folder.files, "azureml-logs", "99.txt"))
    assert folder.logs() == ["azureml-logs/20_image_build_log.txt", "azureml-logs/70_driver_log.txt"]


def test_what_is_absent_is_answered_with_near_matches(folder: RunFolder) -> None:
    with pytest.raises(UserErrorException, match=r"has no file 'a\.txt'\. It has none yet"):
        folder.get("a.txt")
    put(folder.work, "outputs/model.bin")
    with pytest.raises(UserErrorException, match=r"'outputs/modle.bin'. Did you mean 'outputs/model.bin'"):
        folder.get("outputs/modle.bin")
    with pytest.raises(UserErrorException, match=r"It has: outputs/model.bin\."):
        folder.get("something/else.csv")


def test_keep_moves_outputs_without_copying(folder: RunFolder) -> None:
    inode = os.stat(put(folder.work, "outputs/a/model.bin")).st_ino
    folder.keep_live()
    folder.keep_live()
    assert names(folder) == ["outputs/a/model.bin"]
    assert os.stat(os.path.join(folder.files, "outputs/a/model.bin")).st_ino == inode


def test_keep_merges_with_what_was_uploaded(folder: RunFolder) -> None:
    put(folder.files, "outputs/a/uploaded.txt", "up")
    put(folder.files, "outputs/only.txt", "up")
    put(folder.work, "outputs/a/written.txt", "out")
    put(folder.work, "outputs/b/deep/file.txt", "out")
    folder.keep_live()
    assert names(folder) == ["outputs/a/uploaded.txt", "outputs/a/written.txt", "outputs/b/deep/file.txt",
                             "outputs/only.txt"]  # fmt: skip
    assert not os.path.exists(os.path.join(folder.work, "outputs"))


def test_keep_goes_on_where_it_was_killed(folder: RunFolder) -> None:
    put(folder.files, "outputs/first.txt")
    put(folder.work, "outputs/second.txt")
    put(folder.work, "outputs/linked.txt", "mine")
    os.symlink("linked.txt", os.path.join(folder.work, "outputs", "alias.txt"))
    put(folder.work, "outputs/alias.txt.windlass-link", "half")
    folder.keep_live()
    assert names(folder) == ["outputs/alias.txt", "outputs/first.txt", "outputs/linked.txt", "outputs/second.txt"]
    assert Path(folder.get("outputs/alias.txt")).read_text() == "mine"


def test_links_inside_become_files_and_links_outside_are_left_out(folder: RunFolder, tmp_path: Path) -> None:
    real = put(folder.work, "outputs/deep/real.txt", "mine")
    put(str(tmp_path), "secret.txt")
    outputs = Path(folder.work, "outputs")
    os.symlink(real, outputs / "absolute.txt")
    os.symlink("deep/real.txt", outputs / "relative.txt")
    os.symlink(tmp_path / "secret.txt", outputs / "stolen.txt")
    os.symlink("nowhere", outputs / "dangling.txt")
    os.symlink(".", outputs / "loop")
    expected = ["outputs/absolute.txt", "outputs/deep/real.txt", "outputs/relative.txt"]
    assert names(folder) == expected
    folder.keep_live()
    folder.seal()
    assert names(folder) == expected
    assert [Path(folder.get(name)).read_text() for name in expected] == ["mine"] * 3
    assert folder.find("outputs/stolen.txt") is None and folder.find("outputs/loop/deep/real.txt") is not None


def test_outputs_that_are_a_link_are_not_followed(folder: RunFolder, tmp_path: Path) -> None:
    put(str(tmp_path / "outside"), "secret.txt")
    os.rmdir(os.path.join(folder.work, "outputs"))
    os.symlink(tmp_path / "outside", os.path.join(folder.work, "outputs"))
    folder.keep_live()
    assert [n for n in names(folder) if n.startswith("outputs")] == []
    assert (tmp_path / "outside" / "secret.txt").exists()


def test_seal_makes_read_only_and_clears_up(folder: RunFolder) -> None:
    put(folder.work, "outputs/model.bin")
    put(folder.spool, "1.spool")
    folder.keep_live()
    for _ in range(2):
        folder.seal()
    assert stat.S_IMODE(os.stat(folder.get("outputs/model.bin")).st_mode) & 0o222 == 0
    assert os.listdir(folder.root) == ["files"]


def test_special_files_are_no_files(folder: RunFolder) -> None:
    os.mkfifo(os.path.join(folder.work, "outputs", "pipe"))
    assert names(folder) == [] and folder.find("outputs/pipe") is None
    folder.keep_live()
    folder.seal()


def test_a_checksum(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_of(str(tmp_path / "f")).startswith("ba7816bf8f01cfea")


def test_an_upload_under_way_is_not_shown(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "r")
    folder.make()
    Path(folder.log("plots/loss.csv")).write_text("1")
    Path(folder.log("plots/more.csv.ab12.windlass-part")).write_text("half")
    assert [f["path"] for f in folder.list()] == ["plots/loss.csv"]


def test_outputs_are_found_while_they_move(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a run they go from the working folder to the kept files; who asks right then gets them."""
    put(folder.work, "outputs/model.bin", "mine")
    there = os.path.isfile

    def moves_after(path: str) -> bool:
        found = there(path)
        monkeypatch.setattr(os.path, "isfile", there)
        folder.keep_live()
        return found

    monkeypatch.setattr(os.path, "isfile", moves_after)
    assert Path(folder.get("outputs/model.bin")).read_text() == "mine"


@pytest.mark.parametrize("name", ["a\\b", "n" * 255, "..\\up", "line\nend"])
def test_whatever_is_listed_can_be_had(folder: RunFolder, name: str) -> None:
    put(folder.work, f"outputs/{name}", "mine")
    notes = folder.keep_live()
    for listed in names(folder):
        assert Path(folder.get(listed)).read_text() == "mine"
    assert len(names(folder)) == 1 and bool(notes) == (name == "..\\up")


def test_links_in_a_circle_and_out(folder: RunFolder, tmp_path: Path) -> None:
    put(folder.work, "outputs/mine", "mine")
    for target, name in [("a", "a"), ("/etc/passwd", "out"), ("/etc", "folder"), ("nowhere", "gone")]:
        os.symlink(target, os.path.join(folder.work, "outputs", name))
    assert folder.keep_live() == [
        "outputs/folder, outputs/out lead out of the folder; what lies there is not kept."
    ]  # fmt: skip
    assert names(folder) == ["outputs/mine"]


def test_a_file_in_place_of_outputs_is_kept(folder: RunFolder) -> None:
    put(folder.files, "outputs/uploaded", "up")
    os.rmdir(os.path.join(folder.work, "outputs"))
    Path(folder.work, "outputs").write_text("mine")
    assert folder.keep_live() == ["outputs is a file instead of a folder; it is kept as outputs.file."]
    assert Path(folder.get("outputs.file")).read_text() == "mine"
    assert names(folder) == ["outputs.file", "outputs/uploaded"]


def test_checksums_of_what_nobody_else_can_change(folder: RunFolder, tmp_path: Path) -> None:
    put(folder.work, "outputs/own", "abc")
    os.link(os.path.join(folder.work, "outputs/own"), os.path.join(folder.work, "outputs/second"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("abc")
    os.link(elsewhere, os.path.join(folder.work, "outputs/shared"))
    folder.keep_live()
    known = folder.checksums(names(folder))
    assert set(known) == {"outputs/own", "outputs/second"}
    assert known["outputs/own"].startswith("ba7816bf8f01cfea")
    with pytest.raises(InterruptedError):
        folder.checksums(names(folder), lambda: False)
