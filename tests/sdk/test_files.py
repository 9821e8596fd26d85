"""Files of a run: down, checked and whole; up, under names that stay inside the run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from sdk.fake_server import FakeServer
from windlass import Run
from windlass.errors import ServiceUnavailable, UserErrorException


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def files(fake: FakeServer) -> dict[str, bytes]:
    fake.files = {"outputs/model.pkl": b"model", "outputs/sub dir/ä.txt": b"text", "logs/a.log": b"log"}
    return fake.files


def test_download_file_goes_where_v1_put_it(run: Run, somewhere: Path) -> None:
    assert run.get_file_names() == ["logs/a.log", "outputs/model.pkl", "outputs/sub dir/ä.txt"]
    run.download_file("outputs/model.pkl")
    assert (somewhere / "model.pkl").read_bytes() == b"model"
    (somewhere / "folder").mkdir()
    run.download_file("outputs/model.pkl", "folder")
    assert (somewhere / "folder" / "model.pkl").read_bytes() == b"model"
    run.download_file(name="outputs/sub dir/ä.txt", output_file_path="./new/deep/name.txt")
    assert (somewhere / "new" / "deep" / "name.txt").read_bytes() == b"text"


def test_a_missing_file_names_near_ones(run: Run) -> None:
    with pytest.raises(UserErrorException, match=r"no file 'outputs/modle.pkl'.*'outputs/model.pkl'"):
        run.download_file("outputs/modle.pkl")
    with pytest.raises(UserErrorException, match=r"no file 'model.pkl'.*'outputs/model.pkl'"):
        run.download_file("model.pkl")
    with pytest.raises(UserErrorException, match=r"no file 'zzz'.* It has: logs/a.log"):
        run.download_files("zzz")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "outputs/../../evil"])
def test_names_that_lead_outside_write_nothing(run: Run, files: dict[str, bytes], name: str, somewhere: Path) -> None:
    files.clear()
    files[name] = b"evil"
    with pytest.raises(UserErrorException, match="cannot name a file of a run"):
        run.download_file(name)
    with pytest.raises(UserErrorException, match="leads out of the folder"):
        run.download_files(output_directory="in")
    assert not (somewhere.parent / "evil").exists() and not list(somewhere.rglob("evil"))


def test_a_link_in_the_way_is_not_followed_outside(run: Run, somewhere: Path) -> None:
    (somewhere.parent / "outside").mkdir()
    (somewhere / "in").mkdir()
    (somewhere / "in" / "outputs").symlink_to(somewhere.parent / "outside")
    with pytest.raises(UserErrorException, match="leads out"):
        run.download_files("outputs/", output_directory="in")
    assert list((somewhere.parent / "outside").iterdir()) == []


def test_a_wrong_checksum_leaves_what_was_there(fake: FakeServer, run: Run, somewhere: Path) -> None:
    (somewhere / "model.pkl").write_bytes(b"old")
    fake.wrong_checksum = True
    with pytest.raises(ServiceUnavailable, match="checksum"):
        run.download_file("outputs/model.pkl")
    assert [p.name for p in somewhere.iterdir()] == ["model.pkl"] and (somewhere / "model.pkl").read_bytes() == b"old"


def test_a_place_that_cannot_be_written_is_named(run: Run, somewhere: Path) -> None:
    (somewhere / "file").write_text("")
    with pytest.raises(UserErrorException, match=r"cannot be written to .*file/x"):
        run.download_file("outputs/model.pkl", "file/x")


def test_download_files_by_prefix(run: Run, somewhere: Path) -> None:
    run.download_files("outputs/", output_directory="a")
    assert (somewhere / "a/outputs/model.pkl").exists() and (somewhere / "a/outputs/sub dir/ä.txt").exists()
    run.download_files("outputs/", output_directory="b", append_prefix=False)
    assert (somewhere / "b/model.pkl").exists() and not (somewhere / "b/logs").exists()
    run.download_files("logs/", output_directory="c", output_paths=["renamed"])
    assert (somewhere / "c/renamed").read_bytes() == b"log"
    with pytest.raises(UserErrorException, match="output_paths has 1 paths, but 2 files"):
        run.download_files("outputs/", output_paths=["x"])


def test_uploads(run: Run, files: dict[str, bytes], somewhere: Path) -> None:
    (somewhere / "tree" / "sub").mkdir(parents=True)
    (somewhere / "tree" / "a").write_bytes(b"A")
    (somewhere / "tree" / "sub" / "b").write_bytes(b"B")
    run.upload_file("./outputs/a.txt", str(somewhere / "tree" / "a"))
    run.upload_file("outputs/stream.bin", io.BytesIO(b"bytes"))
    run.upload_file("outputs/text.txt", io.StringIO("täxt"))
    run.upload_folder("outputs/tree", "tree")
    run.upload_files(["x", "y"], ["tree/a", "tree/sub/b"])
    assert files["outputs/a.txt"] == b"A" and files["outputs/stream.bin"] == b"bytes"
    assert files["outputs/text.txt"] == "täxt".encode()
    assert (files["outputs/tree/a"], files["outputs/tree/sub/b"], files["y"]) == (b"A", b"B", b"B")


@pytest.mark.parametrize("name", ["", "../x", "/abs", "a/../b", "a//b", 3])
def test_uploads_stay_inside_the_run(run: Run, name: str) -> None:
    with pytest.raises(UserErrorException, match="cannot name a file of a run"):
        run.upload_file(name, io.BytesIO(b""))


def test_uploading_what_is_not_there(run: Run) -> None:
    with pytest.raises(UserErrorException, match="'nope' cannot be uploaded"):
        run.upload_file("outputs/x", "nope")
    with pytest.raises(UserErrorException, match="no such folder"):
        run.upload_folder("outputs/x", "nope")
