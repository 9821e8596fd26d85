"""Data on a node that is not the server's machine, against a real server's routes for agents."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from server.agents.conftest import Served
from windlass._transport.client import Client
from windlass.errors import UserErrorException
from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.launch import LaunchSpec
from windlass.specs.status import RunStatus
from windlassd.agent import data
from windlassd.agent.data_cache import SMALL_BYTES, DataCache
from windlassd.agent.datastores import FetchedFolders
from windlassd.agent.uplink import Uplink
from windlassd.blobs.run_folder import RunFolder
from windlassd.server.agents import node

STORE = "workspaceblobstore"
BIG = os.urandom(SMALL_BYTES + 4321)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
        made = Served(tmp_path_factory.mktemp("served") / "ws")
        yield made
        made.close()


class Node:
    """A node on which a part with some data is to run; it does not see the server's folders."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self.home = served, folder / "node"
        self.store = served.folder / "datastores" / STORE
        shutil.rmtree(self.store, ignore_errors=True)
        self.store.mkdir(parents=True)
        (self.home / "data").mkdir(parents=True)
        self.blind = True
        self.clients: list[Client] = []

    def put(self, **files: bytes | str) -> None:
        for name, content in files.items():
            path = self.store / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def part(self, *specs: DataSpec) -> Part:
        return Part(self, f"data-{os.urandom(4).hex()}", specs)


class Part:
    def __init__(self, node: Node, run_id: str, specs: tuple[DataSpec, ...]) -> None:
        served = node.served
        served.run(run_id, RunStatus.RUNNING, data=specs)
        agent = f"{run_id}.1.0"
        way = Uplink(served.hub.enlist(agent, run_id))
        self.client = Client(str(node.home / "ws"), way=way)
        node.clients.append(self.client)
        cache = DataCache(self.client, agent, str(node.home / "data"))
        self.stores = FetchedFolders(self.client, agent, cache)
        self.cache = cache
        self.folder = RunFolder(str(node.home / "ws"), run_id)
        self.folder.make()
        os.makedirs(self.folder.work)
        self.node = node
        roots = {STORE: str(node.store)}
        self.launch = LaunchSpec(run_id, 1, "n", 0, "train.py", (), "5" * 64, "/usr/bin/python3", data=tuple(
            replace(s, places=tuple(replace(p, root=roots.get(p.datastore or "")) for p in s.places)) for s in specs
        ))  # fmt: skip
        if node.blind:
            self._hide_probes()

    def ready(self, wanted: Callable[[], bool] = lambda: True) -> data.DataOnNode:
        self.launch_here = self.stores.bring(self.launch, self.folder, wanted)
        return data.prepare(self.launch_here, self.folder, {})

    def path(self, name: str = "d") -> Path:
        return Path(self.ready().variables[f"AZUREML_DATAREFERENCE_{name}"])

    def send_back(self, ended_well: bool = True) -> list[str]:
        return list(self.stores.send_back(self.launch, self.folder, ended_well))

    def _hide_probes(self) -> None:
        """As on another machine: what the server wrote just now is not there."""
        really = self.client.post

        def post(path: str, body: object = None, **query: object) -> object:
            answer = really(path, body, **query)
            if path.endswith("/probes") and answer["path"]:
                assert Path(answer["path"]).read_text() == answer["content"]
                answer["path"] += ".elsewhere"
            return answer

        self.client.post = post  # type: ignore[method-assign,assignment]


@pytest.fixture
def node_here(served: Served, tmp_path: Path) -> Iterator[Node]:
    made = Node(served, tmp_path)
    yield made
    for client in made.clients:
        client.close()


def of(path: str = "", **values: object) -> DataSpec:
    return DataSpec(**{"name": "d", "places": (DataPlace(path, STORE),), **values})  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }  # fmt: skip


def test_both_sides_agree_on_what_is_small() -> None:
    assert node.SMALL_BYTES == SMALL_BYTES


def test_a_mounted_folder_has_its_files_and_no_others(node_here: Node) -> None:
    node_here.put(train__a="1", train__deep__b="2", trained="no", big=BIG)
    part = node_here.part(of("train", kind="input", dataset={"id": "i"}))
    assert tree(part.path()) == {"a": b"1", "deep/b": b"2"}
    assert str(part.path()).startswith(str(node_here.home))


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_files_small_and_big_patterns_and_steps(node_here: Node, mode: str) -> None:
    node_here.put(big=BIG, x__1__txt="1", x__2__txt="2", x__3__csv="3")
    for name in ("1", "2"):
        os.rename(node_here.store / "x" / name / "txt", node_here.store / "x" / f"{name}.txt")
    steps = {"id": "i", "definition": {"steps": [{"op": "skip", "count": 1}, {"op": "take", "count": 1}]}}
    part = node_here.part(
        of("big", name="big", mode=mode), of("x/*.txt", name="some", kind="input", mode=mode, dataset={"id": "i"}),
        of("x", name="chosen", kind="input", mode=mode, dataset=steps),
    )  # fmt: skip
    found = part.ready().variables
    assert Path(found["AZUREML_DATAREFERENCE_big"]).read_bytes() == BIG
    assert tree(Path(found["some"])) == {"1.txt": b"1", "2.txt": b"2"}
    assert tree(Path(found["chosen"])) == {"2.txt": b"2"}


def test_a_second_part_fetches_nothing_again_until_a_file_changes(node_here: Node) -> None:
    node_here.put(a="1", big=BIG)
    node_here.part(of()).path()
    held = {p.name: p.stat().st_ino for p in (node_here.home / "data").rglob("*") if p.is_file()}
    (node_here.store / "a").write_text("22")
    assert tree(node_here.part(of()).path()) == {"a": b"22", "big": BIG}
    now = {p.name: p.stat().st_ino for p in (node_here.home / "data").rglob("*") if p.is_file()}
    assert held.items() <= now.items() and len(now) == len(held) + 1


def test_what_a_script_changed_in_the_cache_is_not_given_to_the_next(node_here: Node) -> None:
    node_here.put(a="right")
    first = node_here.part(of(kind="input", dataset={"id": "i"}))
    (first.path() / "a").write_text("wrong")
    assert tree(node_here.part(of()).path()) == {"a": b"right"}
    assert first.send_back() == [] and (node_here.store / "a").read_text() == "right"


def test_what_broke_off_goes_on_where_it_stopped(node_here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node_here.put(big=BIG)
    part = node_here.part(of("big"))
    really, ranges = part.client.open, []

    def breaks(method: str, path: str, **asked: object) -> object:
        answer = really(method, path, **asked)  # type: ignore[arg-type]
        if "/files/big" in path:
            ranges.append(dict(asked.get("headers") or {}).get("Range"))  # type: ignore[call-overload]
            if len(ranges) == 1:
                read, left = answer.read, [300_000]

                def some(size: int = -1) -> bytes:
                    data = read(min(size, left[0]))
                    left[0] -= len(data)
                    return data

                answer.read = some  # type: ignore[method-assign]
        return answer

    part.client.open = breaks  # type: ignore[method-assign,assignment]
    assert part.path().read_bytes() == BIG
    assert ranges == [None, "bytes=300000-"]


def test_damage_on_the_way_is_noticed(node_here: Node) -> None:
    node_here.put(big=BIG)
    part = node_here.part(of("big"))
    really = part.client.get
    part.client.get = lambda path, **q: {**really(path, **q), **({"sha256": "0"} if "checksums" in path else {})}  # type: ignore[method-assign]
    with pytest.raises(UserErrorException, match="arrived damaged 3 times"):
        part.ready()


def test_a_full_disk_is_named(node_here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node_here.put(a="1")
    part = node_here.part(of())
    monkeypatch.setattr(part.cache, "_free", lambda: 0)
    with pytest.raises(UserErrorException, match=r"no room for the run's data.*WINDLASS_HOME"):
        part.ready()


def test_the_cache_keeps_to_its_size(node_here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node_here.put(a=b"a" * 6000, b=b"b" * 6000)
    monkeypatch.setenv("WINDLASS_NODE_CACHE_MAX_GB", "0.00001")
    first, second = node_here.part(of("a")), node_here.part(of("b"))
    assert first.path().read_bytes() == b"a" * 6000 and second.path().read_bytes() == b"b" * 6000
    assert sum(p.stat().st_size for p in (node_here.home / "data").rglob("*") if p.is_file()) <= 10_000
    assert Path(first.launch_here.data[0].places[0].root or "", "a").read_bytes() == b"a" * 6000


def test_what_is_not_there_is_named(node_here: Node) -> None:
    with pytest.raises(UserErrorException, match=rf"datastore '{STORE}' has no 'nope'"):
        node_here.part(of("nope", kind="input", dataset={"id": "i"})).ready()


def test_outputs_come_home(node_here: Node) -> None:
    node_here.put(old="before", ref__a="1")
    part = node_here.part(
        of("made", name="out", kind="output", dataset={}), of("up", name="up", mode="upload"),
        of("ref", name="ref"),
    )  # fmt: skip
    found = part.ready().variables
    for name, text in (("out", "model"), ("up", "weights"), ("ref", "extra")):
        target = Path(found[f"AZUREML_DATAREFERENCE_{name}"])
        (target / "deep").mkdir(exist_ok=True)
        (target / "deep" / "file").write_text(text)
    (Path(found["AZUREML_DATAREFERENCE_ref"]) / "a").write_text("changed")
    assert part.send_back() == [] == part.send_back()
    assert tree(node_here.store) == {
        "old": b"before", "made/deep/file": b"model", "up/deep/file": b"weights", "ref/deep/file": b"extra",
        "ref/a": b"changed",
    }  # fmt: skip


def test_a_log_says_that_a_mounted_output_is_sent_at_the_end(node_here: Node) -> None:
    part = node_here.part(of("made", name="out", kind="output", dataset={}), of("up", name="up", mode="upload"))
    part.ready()
    (said,) = Path(part.folder.log("azureml-logs/30_data_log_0.txt")).read_text().splitlines()
    assert said.startswith(f"out: n does not see the folder of '{STORE}' itself.") and "when the run has ended" in said
    node_here.blind = False
    seen = node_here.part(of("made", name="out", kind="output", dataset={}))
    seen.ready()
    assert not os.listdir(os.path.join(seen.folder.files, "azureml-logs"))


def test_an_upload_does_not_replace_other_content(node_here: Node) -> None:
    node_here.put(up__a="theirs", up__same="same")
    part = node_here.part(of("up", mode="upload"))
    place = part.path()
    (place / "a").write_text("mine")
    (problem,) = part.send_back()
    assert "exists in the datastore" in problem and "overwrite=True" in problem
    (place / "a").unlink()
    (place / "same").write_text("same")
    assert part.send_back() == [] and tree(node_here.store)["up/a"] == b"theirs"


def test_links_that_lead_out_are_not_sent(node_here: Node, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for spec in (of("out", kind="output", dataset={}), of("out", mode="upload")):
        for target in (tmp_path / "secret", tmp_path):
            part = node_here.part(spec)
            (part.path() / "link").symlink_to(target)
            problems = part.send_back()
            if spec.mode == "mount" or target.is_file():
                assert "leads out" in problems[0]
    assert tree(node_here.store) == {}


def test_a_node_that_sees_the_datastore_uses_it_in_place(node_here: Node) -> None:
    node_here.put(a="1")
    node_here.blind = False
    part = node_here.part(of(), of("made", name="out", kind="output", dataset={}))
    found = part.ready().variables
    assert found["AZUREML_DATAREFERENCE_d"] == str(node_here.store)
    (Path(found["AZUREML_DATAREFERENCE_out"]) / "x").write_text("there")
    assert part.send_back() == [] and tree(node_here.store) == {"a": b"1", "made/x": b"there"}
    assert [p for p in (node_here.home / "data").rglob("*") if p.is_file()] == []


def test_an_absolute_path_is_used_when_it_is_seen_and_refused_when_not(node_here: Node, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("1")
    spec = DataSpec("d", places=(DataPlace(str(tmp_path / "mine")),))
    with pytest.raises(UserErrorException, match=r"this node does not see that.*Upload it to a datastore"):
        node_here.part(spec).ready()
    node_here.blind = False
    part = node_here.part(spec)
    assert part.path() == tmp_path / "mine" and tree(tmp_path / "mine") == {"a": b"1"}


def test_a_part_that_is_told_to_end_fetches_no_more(node_here: Node) -> None:
    node_here.put(big=BIG)
    part = node_here.part(of("big"))
    with pytest.raises(Exception, match="told to end"):
        part.ready(lambda: False)


def test_an_agent_may_probe_and_fetch_what_its_run_names_only(node_here: Node) -> None:
    part = node_here.part(of("a"))
    base = f"/agent/v1/{part.launch.run_id}.1.0"
    for asked in ({"path": "/etc"}, {"datastore": "workspacefilestore"}, {}, {"datastore": STORE, "path": "/etc"}):
        with pytest.raises(UserErrorException, match="own run names"):
            part.client.post(f"{base}/probes", asked)
    with pytest.raises(UserErrorException, match="own run names"):
        part.client.post(f"{base}/datastores/workspacefilestore/contents", {"paths": ["a"]})
    with pytest.raises(UserErrorException, match=r"'\.\.'|leads|relative"):
        part.client.get(f"{base}/datastores/{STORE}/checksums/../../x")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "."])
def test_a_server_that_lists_paths_outside_is_not_believed(
    node_here: Node, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = node_here.part(of())
    listing = {"files": [{"path": path, "size": 1, "modified": 1.0}]}
    monkeypatch.setattr(part.client, "get", lambda *args, **query: listing)
    with pytest.raises(UserErrorException, match=r"no file of it|no path"):
        part.ready()


def test_four_parts_fetch_the_same_at_once_while_a_script_spoils_it(node_here: Node) -> None:
    there = {f"small-{i}": str(i).encode() * 100 for i in range(40)} | {"big": BIG}
    node_here.put(**there)
    for _ in range(6):
        parts = [node_here.part(of()) for _ in range(4)]
        spoiled = node_here.part(of(kind="input", dataset={"id": "i"})).path()
        with ThreadPoolExecutor(5) as threads:
            places = [threads.submit(part.path) for part in parts]
            spoils = threads.submit(lambda at=spoiled: [p.write_bytes(b"wrong") for p in at.iterdir()])  # type: ignore[misc]
            found = [place.result(60) for place in places]
            spoils.result(60)
        assert all(sorted(tree(place)) == sorted(there) for place in found)
    assert tree(node_here.part(of()).path()) == there
    assert not list((node_here.home / "data").rglob("*.*.part"))
