"""Shipping to a server that answers, fails, refuses, or already knows."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from windlass import _spools
from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable, UserErrorException, from_code
from windlass.specs import spool as spool_format
from windlassd.agent import ship
from windlassd.agent.ship import Shipper
from windlassd.agent.tail import Grew
from windlassd.blobs.run_folder import RunFolder

PART = ("run_1", 1, 0)


class FakeServer:
    """Holds spools by offset as the real one does; ``trouble`` may raise before a call is served."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.spools: dict[str, bytes] = {}
        self.batches: list[tuple[str, int, int]] = []
        self.came = threading.Event()
        self.trouble: Callable[[str], None] = lambda path: None

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        self.trouble(path)
        self.events += [e for e in body["events"] if e["kind"] != "heartbeat"]

    def call(self, method: str, path: str, *, query: Mapping[str, Any], body: bytes, content_type: str) -> Any:
        self.trouble(path)
        name, offset = f"{query['run_id']}/{query['spool']}", query["offset"]
        self.batches.append((name, offset, len(body)))
        held = self.spools.setdefault(name, b"")
        if len(held) == offset:
            assert spool_format.whole_frames(body, last="last" in query) == len(body)
            self.spools[name] = held + body
            self.came.set()
        return {"acked": len(self.spools[name])}


def fails(problem: Exception, times: int = 1, where: str = "") -> Callable[[str], None]:
    """Trouble that raises the first ``times`` calls to ``where``."""
    left = [times]

    def trouble(path: str) -> None:
        if where in path and left[0]:
            left[0] -= 1
            raise problem

    return trouble


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def shipper(server: FakeServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shipper]:
    monkeypatch.setattr(ship, "_RETRY_S", (0.0,))
    made = Shipper(cast(Client, server), "local")
    made.open(PART, folder)
    yield made
    made.close(PART)


def write(folder: RunFolder, data: bytes, name: str = "1.spool") -> None:
    with open(os.path.join(folder.spool, name), "ab") as spool:
        spool.write(data)


def points(count: int) -> bytes:
    return b"".join(spool_format.json_frame(0, i, i, "x" * 20) for i in range(count))


def within(work: Callable[[], None], seconds: float = 20.0) -> None:
    """Run what could hang on a thread of its own, and fail when it does."""
    done = threading.Event()
    thread = threading.Thread(target=lambda: (work(), done.set()), daemon=True)
    thread.start()
    assert done.wait(seconds), "it hangs"


def test_events_arrive_in_their_order(shipper: Shipper, server: FakeServer) -> None:
    tickets = [shipper.event(PART, "started", number=n) for n in range(50)]
    within(lambda: shipper.wait(tickets[-1]))
    assert [e["number"] for e in server.events] == list(range(50)) and tickets == sorted(tickets)
    assert {"run_id", "attempt", "rank", "kind", "time", "number"} == set(server.events[0])


def test_drain_returns_when_all_is_acknowledged(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    write(folder, points(100))
    write(folder, points(7), "2.spool")
    within(lambda: shipper.drain(PART, folder))
    assert server.spools == {"run_1/1.spool": points(100), "run_1/2.spool": points(7)}


def test_a_torn_end_is_waited_for_and_sent_at_the_end(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    """The server counts it as lost: nobody else could tell that there was something."""
    torn = points(3) + points(1)[:-4]
    write(folder, torn)
    shipper.grew(PART, Grew.SPOOL)
    assert server.came.wait(20)
    assert server.spools["run_1/1.spool"] == points(3)
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == torn


def test_what_a_script_removes_can_still_be_read(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    write(folder, points(3))
    shipper.grew(PART, Grew.SPOOL)
    assert server.came.wait(20)
    with open(os.path.join(folder.spool, "1.spool"), "ab") as held:
        shutil.rmtree(folder.spool)
        held.write(points(2))
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == points(3) + points(2)
    assert shipper.missed(PART, ["1.spool"]) == []
    assert "1 of its files of metric points" in shipper.missed(PART, ["1.spool", "2.spool"])[0]


def test_no_odd_folder_ends_the_shipping(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    shutil.rmtree(folder.spool)
    Path(folder.spool).write_text("a file")
    shipper.grew(PART, Grew.SPOOL)
    shutil.rmtree(os.path.join(folder.files, "azureml-logs"))
    Path(folder.files, "azureml-logs").write_text("a file")
    shipper.grew(PART, Grew.LOGS)
    os.unlink(folder.spool)
    os.mkdir(folder.spool)
    write(folder, points(2))
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == points(2)


def test_growth_is_shipped_from_where_it_was(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    write(folder, points(3))
    within(lambda: shipper.drain(PART, folder))
    write(folder, points(2))
    shipper.grew(PART, Grew.SPOOL)
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == points(3) + points(2)
    assert server.batches[-1][1] == len(points(3))


def test_a_server_that_is_away_is_tried_again(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    server.trouble = fails(ServiceUnavailable("restarting"), times=5)
    write(folder, points(10))
    within(lambda: shipper.drain(PART, folder))
    server.trouble = fails(ServiceUnavailable("restarting"), times=5)
    within(lambda: shipper.wait(shipper.event(PART, "ended")))
    assert server.spools["run_1/1.spool"] == points(10) and [e["kind"] for e in server.events] == ["ended"]


def test_news_of_growth_does_not_pile_up_while_the_server_is_away(shipper: Shipper, server: FakeServer) -> None:
    server.trouble = fails(ServiceUnavailable("restarting"), times=50)
    first = shipper.event(PART, "started")
    for size in range(10_000):
        shipper.event(PART, "grew", files={"log": size})
        shipper.event(PART, "changed")
    within(lambda: shipper.wait(shipper.event(PART, "ended")))
    kinds = [e["kind"] for e in server.events]
    assert first == 1 and kinds[0] == "started" and kinds[-1] == "ended" and len(kinds) < 2_000
    assert [e["files"] for e in server.events if e["kind"] == "grew"][-1] == {"log": 9_999}


def test_a_server_whose_disk_is_full_is_tried_again(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    import windlassd.store.base  # noqa: F401  its errors share the code, and must not be taken for a refusal

    server.trouble = fails(from_code("service_unavailable", "the disk is full"), times=3)
    write(folder, points(10))
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == points(10)


def test_a_refusal_does_not_hang(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    server.trouble = fails(UserErrorException("There is no run 'run_1'."), times=100)
    write(folder, points(10))
    within(lambda: shipper.drain(PART, folder))
    within(lambda: shipper.wait(shipper.event(PART, "ended")))
    assert server.events == [] and server.spools == {}


def test_a_wrong_offset_is_answered_with_the_right_one(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    server.spools["run_1/1.spool"] = points(4)  # a killed predecessor had sent these
    write(folder, points(4) + points(6))
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == points(4) + points(6)
    assert [offset for _, offset, _ in server.batches] == [0, len(points(4))]


def test_a_frame_larger_than_a_batch(
    shipper: Shipper, server: FakeServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_spools, "BATCH_BYTES", 1000)
    big = spool_format.json_frame(0, 1, 1, "y" * 5000)  # its own batch reads on to its end
    write(folder, points(3) + big + points(60))
    within(lambda: shipper.drain(PART, folder))
    assert server.spools["run_1/1.spool"] == points(3) + big + points(60)


def test_what_a_script_puts_among_the_spools_stops_nobody(
    shipper: Shipper, server: FakeServer, folder: RunFolder
) -> None:
    os.symlink("/nowhere", os.path.join(folder.spool, "a.spool"))
    os.mkdir(os.path.join(folder.spool, "b.spool"))
    os.symlink("/etc/passwd", os.path.join(folder.spool, "c.spool"))
    write(folder, b"", "d.spool")
    write(folder, b"junk" * 100, "e.spool")
    write(folder, points(2), "z.spool")
    within(lambda: shipper.drain(PART, folder))
    assert server.spools == {"run_1/e.spool": b"junk" * 100, "run_1/z.spool": points(2)}


@pytest.mark.parametrize("problem", [OSError(5, "Input/output error"), TypeError("a bug of ours")], ids=["disk", "bug"])
def test_a_spool_that_cannot_be_read_does_not_keep_the_end_waiting(
    shipper: Shipper, server: FakeServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    own = ship.frames_at

    def read(path: str, start: int, last: bool = False) -> tuple[bytes, int]:
        data, whole = own(path, start, last)
        if data == points(4):
            raise problem
        return data, whole

    monkeypatch.setattr(ship, "frames_at", read)
    write(folder, points(2), "1.spool")
    write(folder, points(4), "2.spool")
    within(lambda: shipper.drain(PART, folder))
    assert server.spools == {"run_1/1.spool": points(2)}
    assert len(shipper.unread(PART)) == 1 and "could not all be read" in shipper.unread(PART)[0]


def test_logs_are_told_when_they_grew_and_only_then(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    log = Path(folder.log("azureml-logs/70_driver_log.txt"))
    log.write_text("ab")
    shipper.grew(PART, Grew.LOGS)
    shipper.grew(PART, Grew.LOGS)
    within(lambda: shipper.wait(shipper.event(PART, "started")))  # what waits together is told as one
    log.write_text("abc")
    shipper.grew(PART, Grew.LOGS)
    shipper.grew(PART, Grew.FILES)
    within(lambda: shipper.wait(shipper.event(PART, "finalizing")))
    assert [e.get("files") for e in server.events if e["kind"] == "grew"] == [
        {"azureml-logs/70_driver_log.txt": 2}, {"azureml-logs/70_driver_log.txt": 3}
    ]  # fmt: skip
    assert [e["kind"] for e in server.events] == ["grew", "started", "grew", "changed", "finalizing"]


def test_news_of_a_closed_run_are_dropped(shipper: Shipper, server: FakeServer) -> None:
    shipper.close(PART)
    for kind in Grew:
        shipper.grew(PART, kind)
    within(lambda: shipper.wait(shipper.event(("other", 1, 0), "ended")))
    assert [e["run_id"] for e in server.events] == ["other"]


def test_open_runs_send_heartbeats(server: FakeServer, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.01")
    beats: list[Mapping[str, Any]] = []
    enough = threading.Event()

    def note(path: str, body: Mapping[str, Any]) -> None:
        beats.extend(body["events"])
        if len(beats) >= 3:
            enough.set()

    monkeypatch.setattr(server, "post", note)
    made = Shipper(cast(Client, server), "local")
    made.open(("run_1", 2, 3), folder)
    assert enough.wait(20)
    made.close(("run_1", 2, 3))
    assert {(b["run_id"], b["attempt"], b["rank"], b["kind"]) for b in beats} == {("run_1", 2, 3, "heartbeat")}


def test_events_do_not_wait_behind_spools(shipper: Shipper, server: FakeServer, folder: RunFolder) -> None:
    held = threading.Event()

    def trouble(path: str) -> None:
        if path.endswith("/spool"):
            assert held.wait(20)

    server.trouble = trouble
    write(folder, points(3))
    shipper.grew(PART, Grew.SPOOL)
    within(lambda: shipper.wait(shipper.event(PART, "grew")))
    assert server.spools == {}
    held.set()
    within(lambda: shipper.drain(PART, folder))
    assert server.spools == {"run_1/1.spool": points(3)}
