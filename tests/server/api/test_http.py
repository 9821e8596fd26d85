"""Answers that all routes share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from windlassd.control.views import LocatedFile
from windlassd.server.api._http import file_response


def sent(path: Path, at_start: Callable[[], None], headers: dict[bytes, bytes] | None = None) -> tuple[int, bytes]:
    """The length told and the bytes sent, when ``at_start`` happens in between."""
    response = file_response(LocatedFile(str(path), path.stat().st_size, None))
    told, body, ended = 0, b"", False
    scope = {"type": "http", "method": "GET", "headers": [*(headers or {}).items()], "asgi": {"spec_version": "2.4"}}

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("a file needs no body")

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal told, body, ended
        assert not ended, "something came after the end"
        if message["type"] == "http.response.start":
            told = int(dict(message["headers"])[b"content-length"])
            at_start()
        else:
            body += message["body"]
            ended = not message["more_body"]

    asyncio.run(response(scope, receive, send))
    assert ended
    return told, body


@pytest.mark.parametrize("size", [0, 10, 64 << 10, 100_000])
@pytest.mark.parametrize("more", [0, 1, 200_000])
def test_a_file_that_grows_while_it_is_sent(tmp_path: Path, size: int, more: int) -> None:
    """Logs do: an answer longer than its length would be cut off by the server, and lose its end."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * size)
    before = os.listdir("/proc/self/fd")

    def grow() -> None:
        with path.open("ab") as f:
            f.write(b"y" * more)

    assert sent(path, grow) == (size, b"x" * size)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_that_is_replaced_while_it_is_sent(tmp_path: Path) -> None:
    path, other = tmp_path / "state", tmp_path / "other"
    path.write_bytes(b"before")
    other.write_bytes(b"after!")
    assert sent(path, lambda: os.replace(other, path)) == (6, b"before")
    assert sent(path, path.unlink) == (6, b"after!")


def test_an_answer_to_a_client_that_has_gone_leaves_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x")
    before = os.listdir("/proc/self/fd")
    response = file_response(LocatedFile(str(path), 1, None))
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del response
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(range(100)))
    assert sent(path, lambda: None, {b"range": b"bytes=10-19"}) == (10, bytes(range(10, 20)))
