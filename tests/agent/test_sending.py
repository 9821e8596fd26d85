"""When files are packed, how much goes at once, and what is repeated."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, cast

import pytest

from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable, UserErrorException
from windlassd.agent import sending
from windlassd.agent.sending import Line, Sender
from windlassd.blobs.shipped import PIECE_BYTES, STREAM_BYTES

TEXT = b"epoch 1 loss 0.25\n" * 20_000


def line(bytes_per_s: float) -> Line:
    made = Line()
    made.took(1 << 20, (1 << 20) / bytes_per_s)
    return made


def test_only_what_gains_by_it_is_packed() -> None:
    slow, fast = line(100e3), line(1e12)
    packed, encoding = slow.pack(TEXT)
    assert encoding == "deflate" and zlib.decompress(packed) == TEXT and len(packed) < len(TEXT) / 10
    noise = os.urandom(300_000)
    for unpacked in (slow.pack(noise), slow.pack(TEXT[:100]), fast.pack(TEXT), Line().pack(TEXT)):
        assert unpacked[1] is None
    assert slow.pack(noise)[0] is noise


def test_a_piece_takes_about_as_long_on_any_line() -> None:
    assert Line().piece_bytes == line(1000).piece_bytes == 256 << 10
    assert line(1e12).piece_bytes == PIECE_BYTES
    assert 256 << 10 < line(10e6).piece_bytes < PIECE_BYTES


def test_little_says_nothing_of_the_line() -> None:
    made = line(1e12)
    made.took(100, 1.0)
    assert made.piece_bytes == PIECE_BYTES


def test_packing_that_takes_longer_than_it_said_is_given_up_and_tried_again_now_and_then() -> None:
    made = line(40e6)
    made.took(16 << 20, (16 << 20) / 40e6)
    assert made.packs(bytes(64 << 10))
    made.took(8 << 20, (8 << 20) / 20e6, 1 << 10)
    assert [made.packs(bytes(64 << 10)) for _ in range(64)].count(True) == 2
    made.took(8 << 20, (8 << 20) / 1e9, 1 << 10)
    assert [made.packs(bytes(64 << 10)) for _ in range(64)].count(False) == 2


def test_nothing_is_packed_before_the_line_is_known() -> None:
    made = Line()
    made.took(256 << 10, 0.02)  # it also opened the connection
    assert made.pack(TEXT)[1] is None


def test_only_on_a_quick_line_pieces_are_long() -> None:
    assert Line().stream_bytes == line(20e6).stream_bytes == 0
    assert PIECE_BYTES < line(100e6).stream_bytes < line(1e12).stream_bytes == STREAM_BYTES


class Server:
    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)
        self.calls = 0

    def call(self, method: str, path: str, **more: Any) -> Any:
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)
        return {"held": 1}

    def close(self) -> None:
        """Nothing is open."""

    def post(self, path: str, body: Any, **query: Any) -> Any:
        return {"lacking": [], **self.call("POST", path)}


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], Sender]:
    monkeypatch.setattr(sending, "_RETRY_S", (0.0,))
    return lambda server: Sender(cast(Client, server), "agent", ("run_1", 1, 0))


def test_a_server_that_is_away_or_full_is_asked_again(sender: Callable[[Server], Sender]) -> None:
    server = Server(*[ServiceUnavailable("the disk is full")] * 30)
    made = sender(server)
    assert made.piece("a", 0, b"x") == {"held": 1} and server.calls == 31 and made.waited_s > 0
    server.problems = [ServiceUnavailable("away")]
    assert list(made.settled([])) == []


def test_a_refusal_is_not_repeated_nor_anything_once_it_is_over(sender: Callable[[Server], Sender]) -> None:
    server = Server(UserErrorException("There is no run."))
    made = sender(server)
    with pytest.raises(UserErrorException):
        made.piece("a", 0, b"x")
    made.close()
    server.problems = [ServiceUnavailable("away")]
    with pytest.raises(ServiceUnavailable):
        made.batch(b"x")
    assert server.calls == 2
