"""What scripts do to files: odd names, links, thousands of them, and folders removed or replaced while they run."""

from __future__ import annotations

import hashlib
import os
import select
import time
from pathlib import Path

import pytest

from faults.evidence import Witnessed
from windlass.specs.run import RunRecord
from windlassd.blobs.room import remove_tree
from windlassd.testing.harness import Workspace

faults = pytest.mark.faults
KEEP = "import shutil\ndiary.log(run, 50); diary.say(5); diary.keep(3)\n"


def outputs(workspace: Workspace, run_id: str) -> dict[str, bytes]:
    """Name and content of the kept outputs, without those of the diary; each checksum that is told is true."""
    found = {}
    for file in workspace.client.get(f"/v1/runs/{run_id}/files")["files"]:
        if file["path"].startswith("outputs") and "/file-0" not in file["path"]:
            content = found[file["path"]] = workspace.read(run_id, file["path"])
            assert len(content) == file["size"], file
            assert file["sha256"] in (None, hashlib.sha256(content).hexdigest()), file
    return found


def verified(workspace: Workspace, run_id: str) -> RunRecord:
    """The record once its checksums are computed, which nothing tells of after the end."""
    deadline = time.monotonic() + 60
    while not (record := workspace.get(run_id)).verified:
        assert time.monotonic() < deadline, "the files are never verified"
        select.select([], [], [], 0.02)
    return record


ODD_NAMES = """
NAMES = ["n" * 255, "a\\\\b", "..\\\\up", "new\\nline", " ", "%41?#&;", "\\x1b[31m", "\\u2603", "C:", "-rf"]
NAMES.append("deep/" * 50 + "x")
for name in NAMES:
    os.makedirs(os.path.dirname("outputs/" + name), exist_ok=True)
    open("outputs/" + name, "w").write(name)
"""


def test_odd_names_are_kept(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, KEEP + ODD_NAMES).submit()
    run.check(status="Completed", words="leads out where \\ separates folders became '..%5Cup'")
    listed = [f["path"] for f in shared.client.get(f"/v1/runs/{run.id}/files")["files"]]
    assert len([path for path in listed if path.startswith("outputs/") and "/file-0" not in path]) == 11
    for path in listed:
        if path.startswith("outputs/") and "/file-0" not in path:
            assert shared.read(run.id, path).decode() == path.removeprefix("outputs/").replace("..%5Cup", "..\\up")


LINKS = """
import socket
os.makedirs("outputs/d"); open("outputs/d/x", "w").write("mine")
os.symlink("d/x", "outputs/inside"); os.symlink(os.path.abspath("outputs/d/x"), "outputs/absolute")
os.symlink("inside", "outputs/twice"); os.link("outputs/d/x", "outputs/hard")
os.symlink("/etc/passwd", "outputs/file-out"); os.symlink("/etc", "outputs/folder-out")
os.symlink("../train.py", "outputs/source"); os.symlink("/dev/zero", "outputs/zero")
os.symlink("loop", "outputs/loop"); os.symlink("nowhere", "outputs/dangling"); os.symlink(".", "outputs/self")
os.mkfifo("outputs/fifo"); socket.socket(socket.AF_UNIX).bind("outputs/socket")
"""


def test_links_and_what_is_no_file(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, KEEP + LINKS).submit()
    record = run.check(status="Completed", words="outputs/file-out, outputs/folder-out, outputs/source and 1 more lead")
    assert "fifo" not in record.reason.message
    kept = outputs(shared, run.id)
    assert kept == {f"outputs/{name}": b"mine" for name in ("d/x", "inside", "absolute", "twice", "hard")}


def test_a_file_that_others_can_change_has_no_checksum(shared: Workspace, tmp_path: Path) -> None:
    """A hard link to elsewhere: what is true of it now need not be true tomorrow."""
    other = tmp_path / "elsewhere.bin"
    other.write_bytes(b"before")
    run = Witnessed(shared, tmp_path, KEEP + f"os.link({str(other)!r}, 'outputs/shared.bin')").submit()
    run.check(status="Completed")
    verified(shared, run.id)
    other.write_bytes(b"after!")
    assert outputs(shared, run.id) == {"outputs/shared.bin": b"after!"}


REMOVED = {
    "outputs": ("shutil.rmtree('outputs'); os.mkdir('outputs')", None),
    "outputs for good": ("shutil.rmtree('outputs')", None),
    "logs": ("shutil.rmtree('logs')", None),
    "outputs for a file": (
        "shutil.rmtree('outputs'); open('outputs', 'w').write('mine')",
        "outputs is a file instead of a folder; it is kept as outputs.",
    ),
    "outputs for a link": ("shutil.rmtree('outputs'); os.symlink('/etc', 'outputs')", "outputs is a link to /etc"),
    "everything": ("shutil.rmtree(os.getcwd())", None),
    "the folder of kept files": (
        "shutil.rmtree(os.path.dirname(os.environ['WINDLASS_SPOOL_DIR']) + '/files')",
        "azureml-logs/70_driver_log.txt was removed while the run went",
    ),
}


@faults
@pytest.mark.parametrize("what", REMOVED)
def test_a_folder_that_is_removed_or_replaced(shared: Workspace, tmp_path: Path, what: str) -> None:
    """What was removed is the script's loss; what it does afterwards is kept, and the run ends as its code says."""
    text, words = REMOVED[what]
    run = Witnessed(shared, tmp_path, f"import shutil\ndiary.log(run, 50)\n{text}\ndiary.log(run, 50)").submit()
    record = shared.wait(run.id)
    assert record.status.value == "Completed" and (words or "") in record.reason.message
    run.check_points()
    kept = outputs(shared, run.id)
    assert kept == ({"outputs": b"mine"} if "for a file" in what else {})


@faults
def test_outputs_that_come_back_are_kept(shared: Workspace, tmp_path: Path) -> None:
    text = KEEP + "shutil.rmtree('outputs'); os.mkdir('outputs'); open('outputs/new', 'w').write('1'); diary.note(2, 0)"
    run = Witnessed(shared, tmp_path, text).submit()
    run.check(status="Completed")
    assert outputs(shared, run.id) == {"outputs/new": b"1"}


@faults
def test_files_that_not_even_their_owner_may_read(shared: Workspace, tmp_path: Path) -> None:
    text = """
        os.makedirs("outputs/d/e")
        for name in ("x", "d/x", "d/e/x"):
            open("outputs/" + name, "w").write(name)
            os.chmod("outputs/" + name, 0)
        for name in ("d/e", "d", ""):
            os.chmod("outputs/" + name, 0)
    """
    run = Witnessed(shared, tmp_path, text).submit()
    run.check(status="Completed")
    assert outputs(shared, run.id) == {f"outputs/{name}": name.encode() for name in ("x", "d/x", "d/e/x")}


@faults
def test_folders_nested_too_deep_hurt_nobody(shared: Workspace, tmp_path: Path) -> None:
    """Deeper than Python's calls may nest, and than a path may be long; then the agent's other runs go on."""
    text = KEEP + "os.chdir('outputs')\nfor name in ['d'] * 1100 + ['d' * 250] * 8: os.mkdir(name); os.chdir(name)\n"
    text += "open('x', 'w').write('deep')"
    run = Witnessed(shared, tmp_path, text).submit()
    try:
        run.check(status="Completed", words="outputs has folders nested too deep to be listed; they are kept in")
        after = Witnessed(shared, tmp_path, "diary.say(5)\nos.read(0, 1)\nimport signal; signal.pause()").submit()
        shared.wait_for_text(after.id, "line 000000004")
        shared.client.post(f"/v1/runs/{after.id}/cancel")
        after.check(status="Canceled")
    finally:
        remove_tree(os.path.join(shared.dir, "runs", run.id))  # pytest could not


@faults
def test_a_sparse_file_of_10_gb_stays_sparse(shared: Workspace, tmp_path: Path) -> None:
    run = Witnessed(shared, tmp_path, KEEP + "open('outputs/sparse', 'wb').truncate(10 << 30)").submit()
    run.check(status="Completed")
    sizes = {f["path"]: f["size"] for f in shared.client.get(f"/v1/runs/{run.id}/files")["files"]}
    assert sizes["outputs/sparse"] == 10 << 30
    path = os.path.join(shared.dir, "runs", run.id, "files/outputs/sparse")
    assert os.stat(path).st_blocks * 512 < 1 << 20


@faults
def test_a_server_ends_in_the_middle_of_a_checksum(workspace: Workspace, tmp_path: Path) -> None:
    """It takes minutes for a big file, and the next server would wait for this one's lock in vain."""
    run = Witnessed(workspace, tmp_path, KEEP + "open('outputs/sparse', 'wb').truncate(200 << 30)").submit()
    run.check(status="Completed")
    first = workspace.server_pid()
    workspace.stop()
    assert not workspace.get(run.id).verified and workspace.server_pid() != first


@faults
def test_ten_thousand_files(shared: Workspace, tmp_path: Path) -> None:
    text = "os.makedirs('outputs/deep/er')\ndiary.keep(9000, size=100)\n"
    text += "diary.keep(1000, size=100, folder='outputs/deep/er')"
    run = Witnessed(shared, tmp_path, text, size=100).submit()
    assert shared.wait(run.id).status.value == "Completed"
    kept = {f["path"]: f for f in shared.client.get(f"/v1/runs/{run.id}/files")["files"]}
    assert len([path for path in kept if path.startswith("outputs/")]) == 10_000
    root = os.path.join(shared.dir, "runs", run.id, "files")
    for path, file in kept.items():
        content = Path(root, path).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest()), path
    for path in list(kept)[::500]:
        assert shared.read(run.id, path) == Path(root, path).read_bytes()


REWRITES = """
import threading
def rewrite():
    for i in range(10**9):
        block = bytes([i % 251]) * {size}
        with open("outputs/state.bin", "r+b" if i else "wb") as f:
            f.write(block)
        with open("outputs/next.bin", "wb") as f:
            f.write(block)
        os.replace("outputs/next.bin", "outputs/swapped.bin")
        if i == 3: diary.say(1)
threading.Thread(target=rewrite, daemon=True).start()
print("begun", flush=True)
{end}
"""


@faults
@pytest.mark.parametrize("size", [100_000, 20 << 20], ids=["hashed at the end", "hashed later"])
def test_checksums_of_what_was_rewritten_while_it_was_read(shared: Workspace, tmp_path: Path, size: int) -> None:
    text = REWRITES.format(size=size, end="while not os.path.exists('stop'): pass\nos._exit(0)")
    run = Witnessed(shared, tmp_path, text).submit()
    shared.wait_for_text(run.id, "line 000000000")
    reads = 0
    while not shared.get(run.id).status.final:
        reads += 1
        if reads == 10:
            Path(shared.dir, "runs", run.id, "work", "stop").touch()
        files = shared.client.get(f"/v1/runs/{run.id}/files")["files"]
        if not shared.get(run.id).status.final:
            assert not [f for f in files if f["sha256"] is not None and f["path"].startswith("outputs/")]
        if (swapped := shared.read(run.id, "outputs/swapped.bin")) and len(swapped) == size:
            assert swapped == swapped[:1] * size, "a file that is replaced whole is read whole"
    run.check(status="Completed")
    verified(shared, run.id)
    outputs(shared, run.id)
    for file in shared.client.get(f"/v1/runs/{run.id}/files")["files"]:
        assert file["sha256"], file


def test_a_log_is_downloaded_while_it_grows(shared: Workspace, tmp_path: Path) -> None:
    text = "import time\ndiary.say(1)\nwhile not os.path.exists('stop'): diary.say(1); time.sleep(0.002)"
    run = Witnessed(shared, tmp_path, text).submit()
    shared.wait_for_text(run.id, "line 000000000")
    log = "azureml-logs/70_driver_log.txt"
    read = [shared.read(run.id, log)]
    while len(read) < 30 or len(read[-1]) == len(read[0]):
        read.append(shared.read(run.id, log))
    Path(shared.dir, "runs", run.id, "work", "stop").touch()
    run.check(status="Completed")
    whole = shared.read(run.id, log)
    assert [len(part) for part in read] == sorted(len(part) for part in read)
    assert all(whole.startswith(part) for part in read)
