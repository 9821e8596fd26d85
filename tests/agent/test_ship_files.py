"""Files of a node on their way to a real server in a process of its own, which is killed as it pleases."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windlass._transport.client import Client
from windlass.specs.launch import PartKey
from windlassd.agent import sending, ship_outputs
from windlassd.agent.ship_files import Brought, FileShipper
from windlassd.agent.tail import Grew, Tail
from windlassd.blobs.run_folder import RunFolder

LOG = "azureml-logs/70_driver_log.txt"
_RANKS = itertools.count(1)
_HERE = Path(__file__)


class Server:
    """The process of ``shipping_server.py``."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return when it answers."""
        command = [sys.executable, str(_HERE.with_name("shipping_server.py")), str(self.workspace)]
        home = str(self.workspace.parent)  # not a test's, whose processes are ended with it
        env = {**os.environ, "PYTHONPATH": str(_HERE.parents[1]), "WINDLASS_HOME": home}
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """As kill -9 does."""
        assert self.process is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


_SHIPPERS: dict[PartKey, FileShipper] = {}


@functools.cache
def shared_tail() -> Tail:
    """One for all nodes of these tests: a machine gives few instances of inotify to a user."""
    return Tail(lambda key, kind: _SHIPPERS[key].grew(key, kind))


class Node:
    """One part on its node; another one on the same folder is an agent that comes after a kill."""

    def __init__(self, server: Server, folder: Path, rank: int | None = None) -> None:
        self.rank = next(_RANKS) if rank is None else rank
        self.key: PartKey = ("run_1", 1, self.rank)
        self.folder = RunFolder(str(folder), "run_1")
        self.folder.make()
        for name in ("outputs", "logs"):
            os.makedirs(os.path.join(self.folder.work, name), exist_ok=True)
        self.there = Path(RunFolder(str(server.workspace), "run_1", self.rank).files)
        self.shipper = FileShipper(Client(str(server.workspace), start=False), "agent")
        self.shipper.open(self.key, self.folder)
        _SHIPPERS[self.key] = self.shipper
        self.tail = shared_tail()
        self.tail.watch(self.key, self.folder)

    def path(self, name: str) -> Path:
        """Where the script writes it."""
        made = Path(self.folder.files if name.startswith("azureml-logs/") else self.folder.work, name)
        made.parent.mkdir(parents=True, exist_ok=True)
        return made

    def print(self, data: bytes) -> None:
        """To the driver's log."""
        with open(self.path(LOG), "ab") as log:
            log.write(data)

    def end(self) -> Brought:
        """What the agent does when the processes have ended."""
        self.shipper.ended(self.key)
        self.tail.forget(self.key)
        self.notes = self.folder.keep_live()
        brought: list[Brought] = []
        within(lambda: brought.append(self.shipper.bring_home(self.key)), 50)
        return brought[0]

    def close(self) -> None:
        """Nothing is sent any more."""
        self.shipper.close(self.key)
        self.tail.forget(self.key)

    def kept(self) -> dict[str, bytes]:
        """What the server has, by name."""
        return {
            str(path.relative_to(self.there)): path.read_bytes()
            for path in self.there.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def until(self, reached: Callable[[dict[str, bytes]], bool]) -> None:
        """Return when what the server has is so."""

        def wait() -> None:
            pause = threading.Event()
            while not over.is_set() and not _holds(reached, self):
                pause.wait(0.005)

        over = threading.Event()
        try:
            within(wait)
        finally:
            over.set()


def _holds(reached: Callable[[dict[str, bytes]], bool], node: Node) -> bool:
    try:
        return reached(node.kept())
    except FileNotFoundError:  # replaced while it was looked at
        return False


def within(work: Callable[[], None], seconds: float = 20.0) -> None:
    """Run what could hang on a thread of its own, and fail when it does."""
    done = threading.Event()
    thread = threading.Thread(target=lambda: (work(), done.set()), daemon=True)
    thread.start()
    assert done.wait(seconds), "it hangs"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("ship") / "ws")
    made.workspace.mkdir()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def server(up: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(sending, "_RETRY_S", (0.01,))
    monkeypatch.setattr(ship_outputs, "QUIET_S", 0.02)
    monkeypatch.setattr(ship_outputs, "_SHORTEST_REST_S", 0.02)
    return up


@pytest.fixture
def node(server: Server, tmp_path: Path) -> Iterator[Node]:
    made = Node(server, tmp_path / "node")
    yield made
    made.close()


def told(brought: Brought) -> dict[str, str]:
    """Checksums by name."""
    return {str(file["path"]): str(file["sha256"]) for file in brought.files}


def sums(kept: Mapping[str, bytes]) -> dict[str, str]:
    """Likewise, of what is there."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in kept.items()}


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_what_is_printed_and_written_is_there_while_the_run_goes(node: Node) -> None:
    node.print(b"one\n")
    node.path("outputs/model.pt").write_bytes(noise(700_000))
    node.path("logs/events").write_bytes(b"e")
    node.until(lambda kept: kept == {LOG: b"one\n", "outputs/model.pt": noise(700_000), "logs/events": b"e"})
    node.print(b"two\n")
    node.until(lambda kept: kept[LOG] == b"one\ntwo\n")
    node.path("outputs/model.pt").write_bytes(b"newer")
    node.until(lambda kept: kept["outputs/model.pt"] == b"newer")
    node.path("outputs/model.pt").unlink()
    node.until(lambda kept: "outputs/model.pt" not in kept)
    brought = node.end()
    assert told(brought) == sums(node.kept()) and set(told(brought)) == {LOG, "logs/events"} and brought.notes == []
    assert node.shipper.make_durable(node.key)


def test_a_server_that_is_killed_again_and_again_gets_everything_once(server: Server, node: Node) -> None:
    lines = [b"line %d\n" % number for number in range(400)]
    big, packed = noise(9_000_000, 2), b"compresses well " * 500_000
    node.path("outputs/big").write_bytes(big)
    node.path("outputs/packed").write_bytes(packed)
    for number in range(30):
        node.path(f"outputs/small/{number}").write_bytes(noise(100, number))
    for number, line in enumerate(lines):
        node.print(line)
        if number % 130 == 129:
            server.kill()
            server.start()
    brought = node.end()
    kept = node.kept()
    assert kept[LOG] == b"".join(lines) and kept["outputs/big"] == big and kept["outputs/packed"] == packed
    assert len(kept) == 33 and told(brought) == sums(kept)


def test_an_agent_that_comes_after_a_kill_sends_nothing_twice(server: Server, tmp_path: Path) -> None:
    first = Node(server, tmp_path / "node")
    first.print(b"before\n")
    first.path("outputs/a").write_bytes(noise(600_000))
    first.path("outputs/gone").write_bytes(b"x")
    first.until(lambda kept: len(kept) == 3)
    first.close()
    inode = (first.there / "outputs/a").stat().st_ino
    first.path("outputs/gone").unlink()
    first.print(b"between\n")
    second = Node(server, tmp_path / "node", first.rank)
    second.print(b"after\n")
    brought = second.end()
    assert second.kept() == {LOG: b"before\nbetween\nafter\n", "outputs/a": noise(600_000)}
    assert told(brought) == sums(second.kept()) and (second.there / "outputs/a").stat().st_ino == inode
    second.close()


def test_logs_that_are_truncated_or_rotated(node: Node) -> None:
    node.print(b"a long beginning\n")
    node.until(lambda kept: kept.get(LOG) == b"a long beginning\n")
    os.truncate(node.path(LOG), 0)
    node.print(b"anew\n")
    node.until(lambda kept: kept[LOG] == b"anew\n")
    os.rename(node.path(LOG), node.path(LOG + ".1"))
    node.print(b"the next file\n")
    node.until(lambda kept: kept == {LOG: b"the next file\n", LOG + ".1": b"anew\n"})
    assert told(node.end()) == sums(node.kept())


def test_a_log_that_differs_at_the_end_is_sent_anew(node: Node) -> None:
    node.print(b"what was printed\n")
    node.until(lambda kept: kept.get(LOG) == b"what was printed\n")
    (node.there / LOG).write_bytes(b"what a power left")
    assert told(node.end()) == sums(node.kept()) and node.kept()[LOG] == b"what was printed\n"


def test_what_went_at_the_server_is_sent_again(node: Node) -> None:
    node.path("outputs/big").write_bytes(noise(2_000_000))
    node.path("outputs/small").write_bytes(b"s")
    node.until(lambda kept: len(kept) == 2)
    node.print(b"one\n")
    node.until(lambda kept: LOG in kept)
    for name in ("outputs/big", "outputs/small", LOG):
        (node.there / name).unlink()
    assert told(node.end()) == sums(node.kept()) and len(node.kept()) == 3


def test_odd_files(node: Node, tmp_path: Path) -> None:
    """Whatever a script leaves, the end gets through, and the server has it under the names that are told."""
    (tmp_path / "secret").write_bytes(b"outside")
    node.path("outputs/real").write_bytes(b"content")
    node.path("outputs/inside").symlink_to("real")
    node.path("outputs/outside").symlink_to(tmp_path / "secret")
    node.path("outputs/nowhere").symlink_to("nothing")
    os.link(node.path("outputs/real"), node.path("outputs/hard"))
    os.mkfifo(node.path("outputs/fifo"))
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(node.path("outputs/x").parent)
        listening.bind("sock")
        os.chdir(here)
    node.path("outputs/empty").touch()
    node.path("outputs/tool").write_bytes(b"#!")
    node.path("outputs/tool").chmod(0o755)
    node.path("outputs/closed").write_bytes(b"closed")
    node.path("outputs/closed").chmod(0)
    node.path("outputs/back\\slash").write_bytes(b"b")
    node.path("outputs/..\\..\\up").write_bytes(b"u")
    node.path("outputs/new\nline é %41 ?&#").write_bytes(b"n")
    Path(os.fsdecode(os.fsencode(node.path("outputs/byte")) + b"\xe9")).write_bytes(b"x")
    node.path("outputs/" + "n" * 255).write_bytes(b"long")
    node.path("outputs/half.windlass-part").write_bytes(b"hidden")
    with open(node.path("outputs/sparse"), "wb") as sparse:
        sparse.seek(20_000_000)
        sparse.write(b"in the middle")
        sparse.truncate(40_000_000)
    expected = {
        "real": b"content", "inside": b"content", "hard": b"content", "empty": b"", "tool": b"#!", "closed": b"closed",
        "back\\slash": b"b", "..%5C..%5Cup": b"u", "new\nline é %41 ?&#": b"n", "byte%E9": b"x", "n" * 255: b"long",
        "sparse": bytes(20_000_000) + b"in the middle" + bytes(40_000_000 - 20_000_013),
    }  # fmt: skip
    names = {f"outputs/{name}": data for name, data in expected.items()}
    node.until(lambda kept: set(names) - {"outputs/closed"} <= set(kept))
    brought = node.end()
    assert node.kept() == names and told(brought) == sums(names) and brought.notes == []
    assert any("leads out" in note for note in node.notes)
    assert (node.there / "outputs/sparse").stat().st_blocks * 512 < 5_000_000
    assert (node.there / "outputs/tool").stat().st_mode & 0o777 == 0o500
    assert (node.there / "outputs/real").stat().st_mode & 0o777 == 0o400


def test_a_file_becomes_a_folder_and_the_other_way_round(node: Node) -> None:
    node.path("outputs/a").write_bytes(b"file")
    node.path("outputs/b/c").write_bytes(b"in folder")
    node.until(lambda kept: set(kept) == {"outputs/a", "outputs/b/c"})
    node.path("outputs/a").unlink()
    node.path("outputs/a/x").write_bytes(b"now in a folder")
    shutil.rmtree(node.path("outputs/b/c").parent)
    node.path("outputs/b").write_bytes(b"now a file")
    node.until(lambda kept: kept == {"outputs/a/x": b"now in a folder", "outputs/b": b"now a file"})
    assert set(told(node.end())) == set(node.kept()) == {"outputs/a/x", "outputs/b"}


def test_what_was_uploaded_makes_way_for_the_scripts_own(node: Node) -> None:
    (node.there / "outputs").mkdir(parents=True)
    (node.there / "outputs/a").write_bytes(b"uploaded")
    (node.there / "outputs/stays").write_bytes(b"uploaded")
    node.path("outputs/a/b").write_bytes(b"written")
    node.end()
    assert node.kept() == {
        "outputs/a/b": b"written", "outputs/a.uploaded": b"uploaded", "outputs/stays": b"uploaded",
    }  # fmt: skip


def test_outputs_replaced_by_a_link(node: Node, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_bytes(b"s")
    node.path("outputs/x").parent.rmdir()
    Path(node.folder.work, "outputs").symlink_to(tmp_path / "elsewhere")
    node.print(b"fine\n")
    brought = node.end()
    assert node.kept() == {LOG: b"fine\n"} and told(brought) == sums(node.kept())


def test_a_write_through_a_memory_map_after_it_was_sent(node: Node) -> None:
    """It need not show in the file's times: what was sent soon after a change is read again at the end."""
    import mmap

    path = node.path("outputs/array")
    path.write_bytes(bytes(100_000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = 1
        node.until(lambda kept: len(kept.get("outputs/array", b"")) == 100_000)
        before = path.stat()
        mapped[5000] = 7
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    brought = node.end()
    assert node.kept()["outputs/array"][5000] == 7 and told(brought) == sums(node.kept())


def test_a_run_that_was_deleted_stops_nobody(server: Server, tmp_path: Path) -> None:
    node = Node(server, tmp_path / "node")
    node.close()
    node.key = ("deleted", 1, 0)
    node.shipper.open(node.key, node.folder)
    node.print(b"x")
    node.path("outputs/big").write_bytes(noise(500_000))
    node.path("outputs/small").write_bytes(b"s")
    brought = node.end()
    assert list(brought.files) == [] and "There is no run" in brought.notes[0]
    node.close()


def test_a_name_that_the_server_cannot_keep_is_told(node: Node) -> None:
    deep = "outputs/" + "/".join(["d" * 200] * 16)
    folder = node.path("outputs/x").parent
    for _ in range(16):
        folder = folder / ("d" * 200)
        folder.mkdir()
    (folder / "f").write_bytes(b"too deep")
    node.path("outputs/fine").write_bytes(b"fine")
    brought = node.end()
    assert set(told(brought)) == {"outputs/fine"} == set(node.kept())
    assert len(brought.notes) == 1 and deep[:100] in brought.notes[0] and "too long" in brought.notes[0]


def test_many_small_files_go_together(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(sending.Sender, "_send", _counted(sending.Sender._send, calls))
    for number in range(1500):
        node.path(f"outputs/{number % 7}/{number}").write_bytes(b"%d" % number)
    brought = node.end()
    assert len(brought.files) == 1500 and told(brought) == sums(node.kept()) and len(calls) < 30


def _counted(send: Callable[..., object], calls: list[str]) -> Callable[..., object]:
    def counted(self: object, path: str, *rest: object) -> object:
        calls.append(path)
        return send(self, path, *rest)

    return counted


_NAMES = st.sampled_from(["outputs/a", "outputs/b", "outputs/d/a", "outputs/d/e/b", "logs/a", "outputs/d"])
_DATA = st.one_of(st.binary(max_size=20), st.integers(1, 3).map(lambda n: noise(n * 500_000, n)))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _NAMES, _DATA),
        st.tuples(st.just("append"), _NAMES, _DATA),
        st.tuples(st.just("truncate"), _NAMES, st.integers(0, 30)),
        st.tuples(st.just("rename"), _NAMES, _NAMES),
        st.tuples(st.just("delete"), _NAMES, st.none()),
        st.tuples(st.just("print"), st.just(LOG), st.binary(min_size=1, max_size=50)),
        st.tuples(st.just("cut"), st.just(LOG), st.integers(0, 20)),
        st.tuples(st.just("look"), st.none(), st.none()),
        st.tuples(st.just("agent"), st.none(), st.none()),
    ),
    max_size=15,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=_STEPS)
def test_whatever_happens_the_server_ends_with_what_lies_there(
    steps: list[tuple[str, str, object]], server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("node")
    node = Node(server, folder)
    for what, name, given_ in steps:
        if what == "agent":
            node.close()
            node = Node(server, folder, node.rank)
        elif what == "look":
            for kind in Grew:
                node.shipper.grew(node.key, kind)
            node.print(b"|")
            size = node.path(LOG).stat().st_size
            node.until(lambda kept, size=size: len(kept.get(LOG, b"")) == size)  # type: ignore[misc]
        else:
            _do(node, what, name, given_)
    brought = node.end()
    here = {
        str(p.relative_to(node.folder.files)): p.read_bytes() for p in Path(node.folder.files).rglob("*") if p.is_file()
    }
    assert node.kept() == here and told(brought) == sums(here) and brought.notes == []
    node.close()


def _do(node: Node, what: str, name: str, value: object) -> None:
    """One thing that a script does; where it fails for the script, nothing happened."""
    try:
        path = node.path(name)
        if what in ("write", "append", "print"):
            with open(path, "wb" if what == "write" else "ab") as file:
                file.write(value)  # type: ignore[arg-type]
        elif what in ("truncate", "cut"):
            os.truncate(path, value)  # type: ignore[arg-type]
        elif what == "rename":
            os.replace(path, node.path(str(value)))
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return
