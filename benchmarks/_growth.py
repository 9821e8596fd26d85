"""What the benchmarks of growth share: the processes of a workspace and what they hold, its pages, tables by size."""

from __future__ import annotations

import http.client
import json
import statistics
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
from _measure import interleaved, ms, table
from _plot import Line, lines, magnitude, publish

from windlass import Workspace


@dataclass(frozen=True)
class Held:
    """What a process (or several) holds at one moment."""

    pss_bytes: int
    """Memory: its own pages, and its share of those that others have too."""
    threads: int
    files: int
    """Open file descriptors."""
    cpu_s: float

    def __add__(self, other: Held) -> Held:
        return Held(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def held_by(pid: int) -> Held:
    """What the process holds now."""
    process = psutil.Process(pid)
    with process.oneshot():
        memory = process.memory_full_info()
        return Held(memory.pss, process.num_threads(), process.num_fds(), float(sum(process.cpu_times()[:2])))


def processes(ws: Workspace) -> dict[str, int]:
    """Pids of the server and the agent."""
    server = ws._client.get("/v1/server")
    return {"server": server["pid"], "agent": server["agents"][0]["pid"]}


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"


Question = Callable[[], Any]


class Pages:
    """A browser that is signed in: pages as their bytes."""

    def __init__(self, ws: Workspace) -> None:
        url = urllib.parse.urlsplit(ws._client.post("/v1/login-codes", {"path": "/runs"})["url"])
        assert url.hostname
        self._connection = http.client.HTTPConnection(url.hostname, url.port)
        self._headers = {"Accept": "text/html"}
        self._connection.request("GET", f"{url.path}?{url.query}", headers=self._headers)
        answer = self._connection.getresponse()
        answer.read()
        self._headers["Cookie"] = str(answer.getheader("Set-Cookie")).split(";")[0]

    def get(self, path: str) -> bytes:
        """The body of the answer, which must be a good one."""
        try:
            answer = self._answer(path)
        except http.client.RemoteDisconnected:  # nothing was asked for so long that the server hung up
            self._connection.close()
            answer = self._answer(path)
        body = answer.read()
        assert answer.status == 200, body[:500]
        return body

    def _answer(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers=self._headers)
        return self._connection.getresponse()

    def json(self, path: str) -> Any:
        """The decoded body."""
        return json.loads(self.get(path))


@dataclass(frozen=True)
class Cost:
    """Median seconds of something, and of its baseline, by size."""

    ours: dict[int, float] = field(default_factory=dict)
    bare: dict[int, float] = field(default_factory=dict)


def compare(costs: dict[str, Cost], name: str, size: int, count: int, ours: Question, bare: Question) -> None:
    """Add the medians of ``count`` interleaved rounds of two questions to ``costs``."""
    times = interleaved(count, {"ours": partial(_ask, ours), "bare": partial(_ask, bare)})
    cost = costs.setdefault(name, Cost())
    cost.ours[size], cost.bare[size] = statistics.median(times["ours"]), statistics.median(times["bare"])


def _ask(question: Question) -> None:
    question()


def by_size(what: str, unit: str, costs: Mapping[str, Cost], sizes: Sequence[int]) -> None:
    """A table: a row for each cost, a column for each size with ours, the baseline and their ratio."""
    columns = [what, *(f"{magnitude(size)} {unit}" for size in sizes)]
    table(columns, [[name, *(_cell(cost, size) for size in sizes)] for name, cost in costs.items()])


def _cell(cost: Cost, size: int) -> str:
    if size not in cost.ours:
        return "-"
    ours, bare = cost.ours[size], cost.bare.get(size)
    return ms(ours) if bare is None else f"{ms(ours)} (bare {ms(bare)}, {ours / bare:.1f}x)"


def plot(
    name: str, title: str, given: Mapping[str, Mapping[int, float]], x: str, y: str, form: Callable[[float], str],
    **more: Any,
) -> None:  # fmt: skip
    """A chart with a line for each of ``given`` over the sizes."""
    drawn = [Line(label, sorted(points.items())) for label, points in given.items()]
    ends = "; ".join(f"{line.label} {form(line.points[0][1])} to {form(line.points[-1][1])}" for line in drawn)
    publish(name, lines(title, drawn, x=x, y=y, x_form=magnitude, y_form=form, **more), f"{title}: {ends}")
