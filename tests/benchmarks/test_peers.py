"""How contestants are measured: in turns, each by a worker of its own, and none of them lost silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Bench = Callable[[str], ModuleType]


def contestant(peers: ModuleType, label: str, kind: str, times: list[Any], log: list[str]) -> Any:
    """One whose rounds take these times; an exception among them is raised."""
    left = list(times)

    def measure() -> dict[str, float]:
        log.append(label)
        now = left.pop(0)
        if isinstance(now, Exception):
            raise now
        return {"call": now}

    return peers.Contestant(label, "nothing", lambda stack: measure, kind)


def test_rounds_are_interleaved_and_the_first_is_not_counted(bench: Bench) -> None:
    peers, order = bench("_peers"), list[str]()
    results = peers.race([
        contestant(peers, "Windlass", peers.OURS, [9.0, 1.0, 2.0, 4.0], order),
        contestant(peers, "other", peers.PEER, [9.0, 3.0, 2.0, 40.0], order),
    ], rounds=3)  # fmt: skip
    assert order == ["Windlass", "other"] * 4
    assert results[0].median("call") == 2.0
    assert results[1].ratio(results[0], "call") == 3.0, "the median of 3, 1 and 10"


def test_a_peer_that_fails_is_a_row_with_the_reason(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    peers = bench("_peers")
    failure = peers.CannotMeasure("no wheel\nfor this Python")
    results = peers.race([
        contestant(peers, "Windlass", peers.OURS, [1.0, 1.0, 1.0], []),
        contestant(peers, "other", peers.PEER, [5.0, failure], []),
    ], rounds=2)  # fmt: skip
    peers.tell(results, "Windlass", [peers.Column("call", "one call", "{:g} s".format)])
    out, err = capfd.readouterr()
    assert json.loads(out.splitlines()[0])["cells"] == [
        ["**Windlass**", "1 s", "1.0x", "nothing"],
        ["other", "**could not be measured**: no wheel for this Python", "", "nothing"],
    ]
    assert "other could not be measured: no wheel for this Python" in err
    assert peers.chart(results, "call")[1].text == "could not be measured: no wheel for this Python"


def test_slow_tools_get_fewer_rounds_but_two(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    peers, order = bench("_peers"), list[str]()
    monkeypatch.setattr(peers, "_LIMIT_S", 0)
    results = peers.race([contestant(peers, "Windlass", peers.OURS, [9.0, 1.0, 2.0], order)], rounds=50)
    assert results[0].median("call") == 1.5


def test_the_benchmark_fails_when_windlass_does(bench: Bench) -> None:
    peers = bench("_peers")
    problem = peers.CannotMeasure("its server is down")
    with pytest.raises(SystemExit, match="Windlass: its server is down"):
        peers.race([contestant(peers, "Windlass", peers.OURS, [problem], [])], rounds=2)


def test_a_worker_does_what_it_is_told_and_times_itself(bench: Bench, tmp_path: Path) -> None:
    peers = bench("_peers")
    (tmp_path / "train.py").write_text("print('first line')\n")
    with ExitStack() as stack:
        bare = peers.worker(stack, "drive_bare")
        logged = bare("log", points=10)
        assert 0 < logged["calls"] <= logged["settled"]
        ran = bare("submit", script=str(tmp_path / "train.py"))
        assert 0 < ran["line"] <= ran["end"]
        with pytest.raises(peers.CannotMeasure, match="KeyError: 'sing'"):
            bare("sing")
        assert bare("log", points=1), "an error does not end it"


def test_a_worker_that_ends_leaves_its_last_word(bench: Bench, tmp_path: Path) -> None:
    peers = bench("_peers")
    with ExitStack() as stack:
        worker = peers.worker(stack, "no_such_driver")
        with pytest.raises(peers.CannotMeasure, match=r"in the middle of 'log'.*No such file or directory"):
            worker("log", points=1)


def test_pins_that_cannot_be_installed_are_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peers = bench("_peers")
    monkeypatch.setattr(peers, "_PINS", tmp_path)
    monkeypatch.setattr(peers, "_ENVIRONMENTS", tmp_path / "peers")
    for variable in ("UV_OFFLINE", "UV_NO_INDEX"):
        monkeypatch.setenv(variable, "1")
    (tmp_path / "bench-aim.txt").write_text("no-such-package-of-windlass==1\n")
    with pytest.raises(peers.CannotMeasure, match=r"cannot be installed here: .*no-such-package-of-windlass"):
        peers.peer("aim")
    assert not (tmp_path / "peers" / "aim" / "made").exists(), "it is tried again next time"
