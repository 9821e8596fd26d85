"""The order line against a server that serves, breaks off, talks junk or is away."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import windlassd
from windlass._transport import autostart
from windlass._transport.client import Client, Way
from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs.launch import PROTOCOL
from windlassd.agent import orders
from windlassd.agent.orders import OrderLine


class Line(io.BytesIO):
    """What the server writes on one line; ``then`` is raised when all is read."""

    def __init__(self, *lines: bytes, then: Exception | None = None) -> None:
        super().__init__(b"".join(lines))
        self._then = then

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line and self._then:
            raise self._then
        return line


class FakeServer:
    """Gives one answer after the other; the last tells to exit."""

    def __init__(self, folder: Path, *answers: Line | Exception) -> None:
        self.workspace_dir = str(folder)
        self.way = Way(self.workspace_dir)
        self.answers = [*answers, Line(order(exit={}))]
        self.hellos: list[Mapping[str, Any]] = []
        self.started: list[str] = []

    def open(self, method: str, path: str, *, body: bytes, **more: Any) -> Line:
        assert (method, path) == ("POST", "/agent/v1/local/orders")
        self.hellos.append(json.loads(body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def order(**what: Any) -> bytes:
    return json.dumps(what).encode() + b"\n"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_RETRY_S", (0.0,))


@pytest.fixture
def carried_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., list[Mapping[str, Any]]]]:
    """``carried_out(*answers)``: what an agent obeyed by the time it was told to exit."""

    def work(
        *answers: Line | Exception, runs: Sequence[tuple[str, int]] = (), fails: Callable[[Any], None] = lambda o: None
    ) -> list[Mapping[str, Any]]:
        obeyed: list[Mapping[str, Any]] = []

        def obey(what: Mapping[str, Any]) -> None:
            fails(what)
            obeyed.append(what)

        server = work.server = FakeServer(tmp_path, *answers)  # type: ignore[attr-defined]
        monkeypatch.setattr(autostart, "ensure_server", server.started.append)
        line = OrderLine(cast(Client, server), "local", obey, lambda: runs)
        assert line.finished.wait(20), "the line hangs"
        assert line.told_to_exit
        return obeyed

    yield work


def test_orders_are_carried_out_in_their_order(carried_out: Any) -> None:
    orders = [{"known": []}, {"start": {"run_id": "a"}}, {}, {"stop": {"run_id": "a"}}]
    assert carried_out(Line(*(order(**o) for o in orders))) == orders


def test_the_hello_says_who_speaks_and_what_it_holds(carried_out: Any) -> None:
    carried_out(runs=[("a", 1)])
    hello = carried_out.server.hellos[0]
    assert hello["protocol"] == PROTOCOL and hello["version"] == windlassd.__version__
    assert hello["runs"] == [["a", 1]] and isinstance(hello["pid"], int)


def test_a_line_that_breaks_is_opened_again_after_starting_the_server(carried_out: Any) -> None:
    broken = (Line(order(a=1), then=ConnectionResetError()), Line(order(b=2)), ServiceUnavailable("away"))
    assert carried_out(*broken, Line(order(c=3))) == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert len(carried_out.server.started) == 4  # before every line but the first


@pytest.mark.parametrize(
    "junk", [b"<html>\n", b"5\n", b"null\n", b'["exit"]\n', b'"exit"\n', b"{}{}\n", b"\xff\xfe\n", b'{"a":']
)
def test_junk_breaks_the_line_and_the_next_one_goes_on(carried_out: Any, junk: bytes) -> None:
    assert carried_out(Line(order(a=1), junk, order(lost=True)), Line(order(b=2))) == [{"a": 1}, {"b": 2}]


def test_an_order_that_cannot_be_carried_out_keeps_no_other_back(carried_out: Any) -> None:
    def fails(what: Mapping[str, Any]) -> None:
        if "start" in what:
            raise TypeError("missing 'run_id'")

    assert carried_out(Line(order(start={}), order(stop={"run_id": "a"})), fails=fails) == [{"stop": {"run_id": "a"}}]
    assert len(carried_out.server.hellos) == 2


@pytest.mark.parametrize("problem", [UserErrorException("no interpreter"), OSError(24, "Too many open files")])
def test_a_server_that_cannot_be_started_is_tried_again(
    carried_out: Any, problem: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = [problem, problem]

    def ensure(workspace: str) -> None:
        if left:
            raise left.pop()

    server = FakeServer(tmp_path, ServiceUnavailable("away"))
    monkeypatch.setattr(autostart, "ensure_server", ensure)
    line = OrderLine(cast(Client, server), "local", lambda o: None, lambda: [("a", 1)])
    assert line.finished.wait(20) and line.told_to_exit and not left


def test_an_agent_without_runs_gives_up_one_with_a_run_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(orders, "_GIVE_UP", 3)
    monkeypatch.setattr(autostart, "ensure_server", lambda workspace: None)
    away = [ServiceUnavailable("away")] * 10
    idle = OrderLine(cast(Client, FakeServer(tmp_path, *away)), "local", lambda o: None, list)
    assert idle.finished.wait(20) and not idle.told_to_exit
    busy = OrderLine(cast(Client, FakeServer(tmp_path, *away)), "local", lambda o: None, lambda: [("a", 1)])
    assert busy.finished.wait(20) and busy.told_to_exit


def test_no_server_is_started_for_a_workspace_that_was_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = FakeServer(tmp_path / "gone")
    monkeypatch.setattr(autostart, "ensure_server", server.started.append)
    line = OrderLine(cast(Client, server), "local", lambda o: None, list)
    assert line.finished.wait(20) and not server.started and not server.hellos


def test_the_line_is_read_by_a_thread_that_lets_the_process_end() -> None:
    assert not [t for t in threading.enumerate() if t.name == "orders" and not t.daemon]
