"""What killed processes of a script left on a node is sent by their agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from windlass._spools import write_end
from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs import spool as spool_format
from windlassd.agent import children, sources


class FakeServer(Client):
    """Holds spools by offset as the real one does; ``away`` calls fail first."""

    def __init__(self) -> None:
        super().__init__("/ws")
        self.spools: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.ends: dict[str, Any] = {}
        self.away = 0
        self.unknown: set[str] = set()

    def call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None,
        content_type: str = "", timeout_s: float = 0,
    ) -> Any:  # fmt: skip
        if self.away:
            self.away -= 1
            raise ServiceUnavailable("away")
        run_id = path.split("/")[3]
        if run_id in self.unknown:
            raise UserErrorException(f"There is no run {run_id!r}.")
        if path.endswith("/end"):
            self.ends[run_id] = body
            return {}
        if "/files/" in path:
            self.files[path.partition("/v1/runs/")[2]] = body.read()
            return {}
        assert query is not None
        held = self.spools.get(run_id, b"")
        if int(query["offset"]) <= len(held):
            held = held[: int(query["offset"])] + body if len(held) < int(query["offset"]) + len(body) else held
        self.spools[run_id] = held
        return {"acked": len(held)}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_ASK_AGAIN_S", (0.0,))


def left(workspace: Path, run_id: str, values: range) -> Path:
    """The spool folder of a child, with points of a process that was killed."""
    spool = workspace / "clients" / run_id / "spool"
    spool.mkdir(parents=True)
    (spool / "7-1.spool").write_bytes(points(values))
    return spool


def points(values: range) -> bytes:
    head = spool_format.series_frame(0, {"name": "loss"})
    return head + b"".join(spool_format.json_frame(0, value, value, value) for value in values)


def test_points_are_sent_from_where_the_server_has_them(tmp_path: Path) -> None:
    server = FakeServer()
    left(tmp_path, "run_1_0", range(100_000))
    whole = points(range(100_000))
    server.spools["run_1_0"] = whole[:12_345]  # what the process had sent
    server.away = 3
    assert children.bring_in(server, str(tmp_path)) == []
    assert server.spools["run_1_0"] == whole
    assert server.ends == {}


def test_files_and_the_end_that_was_written_down_are_carried_out(tmp_path: Path) -> None:
    server = FakeServer()
    spool = left(tmp_path, "run_1_0", range(3))
    charts = spool.parent / "files"
    charts.mkdir()
    (charts / "chart.json").write_text("{}")
    (charts / "link").symlink_to("/etc/passwd")
    (tmp_path / "model").write_text("m")
    write_end(
        str(spool), {"status": "Completed", "reason": None, "time": 1.0, "files": [("outputs/m", f"{tmp_path}/model")]}
    )
    assert children.bring_in(server, str(tmp_path)) == []
    assert server.files == {"run_1_0/files/chart.json": b"{}", "run_1_0/files/outputs/m": b"m"}
    assert b'"Completed"' in server.ends["run_1_0"]
    assert os.listdir(charts) == ["link"]


def test_one_that_the_server_does_not_know_keeps_no_other_back(tmp_path: Path) -> None:
    server = FakeServer()
    left(tmp_path, "run_1_0", range(3))
    left(tmp_path, "run_1_1", range(3))
    server.unknown.add("run_1_0")
    (problem,) = children.bring_in(server, str(tmp_path))
    assert "run_1_0" in problem and "There is no run" in problem
    assert server.spools["run_1_1"] == points(range(3))


def test_nothing_is_left_in_most_parts(tmp_path: Path) -> None:
    assert children.bring_in(FakeServer(), str(tmp_path)) == []
