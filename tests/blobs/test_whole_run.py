"""A run of several nodes as one folder: who has a name, what is beside, and that merging keeps all of it."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.blobs.run_folder import RunFolder
from windlassd.blobs.whole_run import WholeRun
from windlassd.control.retries import put_aside

NODES = ("c-0", "c-1", "c-2")


@pytest.fixture
def parts(tmp_path: Path) -> list[RunFolder]:
    """Three nodes' parts with working folders, as their agents make them."""
    made = [RunFolder(str(tmp_path / "ws"), "run_1", rank) for rank in range(3)]
    for part, node in zip(made, NODES, strict=True):
        part.make(node)
        for name in ("outputs", "logs"):
            Path(part.work, name).mkdir(parents=True)
    return made


@pytest.fixture
def whole(tmp_path: Path) -> WholeRun:
    return WholeRun(str(tmp_path / "ws"), "run_1")


def put(root: str, name: str, text: str) -> Path:
    path = Path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def told(whole: WholeRun) -> Mapping[str, str]:
    """Name → content of all that is listed, as it is found by its name."""
    listed = {file["path"]: file["size"] for file in whole.list()}
    found = {name: Path(whole.get(name)).read_text() for name in listed}
    assert {name: len(text) for name, text in found.items()} == listed
    assert set(whole.checksums(listed)) == {name for name in listed if not os.path.islink(whole.get(name))}
    return found


def end(parts: list[RunFolder]) -> None:
    """What the agents do at the end."""
    for part in parts:
        part.keep_live()
        part.seal()


def test_each_name_once_and_the_lowest_rank_has_it(parts: list[RunFolder], whole: WholeRun) -> None:
    for rank, part in enumerate(parts):
        put(part.work, "outputs/model.bin", f"model {rank}")
        put(part.work, f"outputs/own/{rank}.txt", f"own {rank}")
        put(part.files, f"azureml-logs/70_driver_log_{rank}.txt", f"log {rank}")
    put(parts[1].work, "logs/only.txt", "only")
    put(parts[2].work, "logs/only.txt", "later")
    expected = {
        "outputs/model.bin": "model 0", "outputs/c-1/model.bin": "model 1", "outputs/c-2/model.bin": "model 2",
        **{f"outputs/own/{rank}.txt": f"own {rank}" for rank in range(3)},
        **{f"azureml-logs/70_driver_log_{rank}.txt": f"log {rank}" for rank in range(3)},
        "logs/only.txt": "only", "logs/c-2/only.txt": "later",
    }  # fmt: skip
    assert told(whole) == expected
    assert list(whole.logs()) == [f"azureml-logs/70_driver_log_{rank}.txt" for rank in range(3)]
    end(parts)
    assert told(whole) == expected
    for _ in range(2):
        whole.merge_parts()
        assert told(whole) == expected
        assert os.listdir(whole.root) == ["files"], "nothing of the nodes is left"
    assert not any(stat.S_IMODE(os.stat(whole.get(name)).st_mode) & 0o222 for name in expected)
    assert [file["path"] for file in parts[0].list()] == sorted(expected)


def test_agents_see_their_own_part_alone(parts: list[RunFolder]) -> None:
    for part in parts:
        put(part.work, "outputs/x", part.node)
    assert [[f["path"] for f in part.list()] for part in parts] == [["outputs/x"]] * 3
    assert parts[0].logs() == []


def test_folders_that_have_a_nodes_name_and_files_where_folders_are(parts: list[RunFolder], whole: WholeRun) -> None:
    put(parts[0].work, "outputs/a", "a file")
    put(parts[0].work, "outputs/x", "x 0")
    put(parts[0].work, "outputs/b/c", "in a folder")
    put(parts[0].work, "outputs/c-1", "named as a node")
    put(parts[0].work, "outputs/c-2/x", "in a folder named as a node")
    put(parts[1].work, "outputs/a/deep/d", "in a folder where rank 0 has a file")
    put(parts[1].work, "outputs/b", "a file where rank 0 has a folder")
    put(parts[2].work, "outputs/x", "x 2")
    put(parts[2].work, "outputs/c-2.2/x", "its own folder of that name")
    expected = {
        "outputs/a": "a file", "outputs/x": "x 0", "outputs/b/c": "in a folder", "outputs/c-1": "named as a node",
        "outputs/c-2/x": "in a folder named as a node",
        "outputs/c-1.2/a/deep/d": "in a folder where rank 0 has a file",
        "outputs/c-1.2/b": "a file where rank 0 has a folder",
        "outputs/c-2.2/x": "its own folder of that name", "outputs/c-2.3/x": "x 2",
    }  # fmt: skip
    assert told(whole) == expected
    end(parts)
    whole.merge_parts()
    assert told(whole) == expected and os.listdir(whole.root) == ["files"]


def test_merging_goes_on_from_wherever_it_was_cut_short(
    parts: list[RunFolder], whole: WholeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    for part in parts:
        for number in range(40):
            name = "/".join(chance.choice(("a", "b", "c-1", "c-2", "c-1.2")) for _ in range(chance.randint(1, 3)))
            try:
                put(part.work, f"outputs/{name}", f"{part.rank} {number}")
            except OSError:  # a folder, or in a file
                continue
    expected = told(whole)
    assert len(expected) > 20
    end(parts)
    real, left = os.rename, [0]

    class Killed(BaseException):
        pass

    def rename(source: str, target: str) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    cut = 0
    while True:
        left[0] = 1
        try:
            whole.merge_parts()
            break
        except Killed:
            cut += 1
        assert told(whole) == expected
    assert cut > 10 and told(whole) == expected and os.listdir(whole.root) == ["files"]


def test_links_that_lead_outside_stay_left_out(parts: list[RunFolder], whole: WholeRun, tmp_path: Path) -> None:
    put(str(tmp_path), "secret", "secret")
    for part in parts:
        put(part.work, "outputs/real", f"real {part.rank}")
        os.symlink(tmp_path / "secret", f"{part.work}/outputs/out")
        os.symlink("real", f"{part.work}/outputs/in")
    os.symlink(parts[0].work, f"{parts[1].work}/outputs/folder")
    expected = {
        f"outputs/{place}{name}": f"real {rank}"
        for rank, place in enumerate(("", "c-1/", "c-2/")) for name in ("real", "in")
    }  # fmt: skip
    assert told(whole) == expected and whole.find("outputs/out") is None and whole.find("outputs/c-1/out") is None
    end(parts)
    whole.merge_parts()
    assert told(whole) == expected
    for name in ("outputs/out", "outputs/c-1/out", "outputs/folder/outputs/real"):
        assert whole.find(name) is None


def test_a_part_whose_node_nobody_noted_has_a_name(tmp_path: Path, whole: WholeRun) -> None:
    first, second = RunFolder(str(tmp_path / "ws"), "run_1"), RunFolder(str(tmp_path / "ws"), "run_1", 1)
    first.make()
    second.make()
    assert second.node == "node-1"
    for part in (first, second):
        put(part.files, "outputs/x", str(part.rank))
    assert told(whole) == {"outputs/x": "0", "outputs/node-1/x": "1"}
    for node, shown in (("../../out", ".._.._out"), ("..", "node-1"), ("a/b\0c", "a_b_c")):
        second.make(node)
        assert second.node == shown


def test_a_run_of_one_node_is_as_before(tmp_path: Path, whole: WholeRun) -> None:
    part = RunFolder(str(tmp_path / "ws"), "run_1")
    part.make("c-0")
    put(part.files, "outputs/x", "x")
    assert told(whole) == {"outputs/x": "x"} and list(whole.others()) == []
    whole.seal()
    assert os.listdir(whole.root) == ["files"]


def test_the_server_clears_up_what_agents_left(parts: list[RunFolder], whole: WholeRun) -> None:
    put(parts[1].work, "outputs/x", "x")
    assert whole.left() == [
        "work", "spool", "agent", "nodes/1/work", "nodes/1/spool", "nodes/1/agent", "nodes/2/work", "nodes/2/spool",
        "nodes/2/agent",
    ]  # fmt: skip
    assert whole.spools() == [part.spool for part in parts]
    whole.keep_live()
    whole.seal()
    assert whole.left() == [] and os.listdir(whole.root) == ["files"] and told(whole) == {"outputs/x": "x"}


def test_folders_nested_deeper_than_the_kernel_takes_are_not_lost(parts: list[RunFolder], whole: WholeRun) -> None:
    def nest(root: str, text: str) -> None:
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=at)
            below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        with open(os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=at), "w") as f:
            f.write(text)
        os.close(at)

    for part in parts[:2]:
        nest(f"{part.work}/outputs", part.node)
    put(parts[1].work, "outputs/x", "x")
    end(parts)
    whole.merge_parts()
    assert told(whole) == {"outputs/x": "x"}
    assert os.path.isdir(parts[1].files), "what cannot be moved stays where it is"


def test_what_earlier_attempts_kept_is_shown_by_their_numbers(parts: list[RunFolder], whole: WholeRun) -> None:
    for part in parts[:2]:
        put(part.work, "outputs/model.bin", f"first {part.rank}")
        put(part.files, f"azureml-logs/70_driver_log_{part.rank}.txt", "log")
    put_aside(whole, 1)
    first = {
        "attempts/1/outputs/model.bin": "first 0", "attempts/1/outputs/c-1/model.bin": "first 1",
        "attempts/1/azureml-logs/70_driver_log_0.txt": "log", "attempts/1/azureml-logs/70_driver_log_1.txt": "log",
    }  # fmt: skip
    assert told(whole) == first
    assert whole.find("outputs/model.bin") is None
    put(whole.files, "outputs/model.bin", "second")
    put(whole.files, "attempts/1/outputs/model.bin", "a file that pretends to be of the first")
    put_aside(whole, 1)  # a server that was killed begins again
    assert told(whole) == {"outputs/model.bin": "second", **first}
    assert whole.find("attempts/2/outputs/model.bin") is None and whole.find("attempts/1") is None
    for name in ("attempts/1/../../files/outputs/model.bin", "attempts/01/outputs/model.bin"):
        with pytest.raises(UserErrorException):
            whole.get(name)


def test_words_that_came_before_an_attempt_was_put_aside_are_the_newer_ones(
    parts: list[RunFolder], whole: WholeRun
) -> None:
    put(parts[0].files, "outputs/a", "old")
    put(parts[0].files, "outputs/b", "b")
    late = RunFolder(whole.workspace_dir, "run_1", earlier=1)
    put(late.files, "outputs/a", "new")
    put_aside(whole, 1)
    assert told(whole) == {"attempts/1/outputs/a": "new", "attempts/1/outputs/b": "b"}
