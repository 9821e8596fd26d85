"""Reading back by the client: all points of one series, and those of 1,000 runs with a tag and a metric below a bound.

The history is filled by each tool's own client before. v1's Python API asks for the runs of a tag, and each for its
metric; Windlass' HTTP API takes both in one call, and the others have a query language.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from _measure import note, quick, rounds
from _peers import CannotMeasure, Column, Contestant, Times, Worker, chart, mlflow, race, tell, windlass, worker
from _plot import OURS, bars, publish, seconds

_POINTS, _RUNS, _TAGS = 100_000, 1_000, 10


def main() -> None:
    ours, aim = windlass(), partial(worker, driver="drive_aim", name="aim")
    results = race([
        Contestant("Windlass", "list of floats; runs with their metrics", _reading(ours), OURS),
        Contestant("Windlass, GET /v1/runs", "records of runs", _query(ours), OURS),
        Contestant("Windlass, 1,000,000 points", "list of floats", _million(ours), OURS),
        Contestant("Aim", "arrays of numpy; metrics with their runs", _reading(aim, needs_index=True)),
        Contestant("MLflow SQLite", "list of Metric objects; runs with their last metrics", _reading(mlflow(False))),
        Contestant("MLflow server", "list of Metric objects; runs with their last metrics", _reading(mlflow(True))),
        Contestant("W&B offline", "", _not_offered),
    ], rounds(5))  # fmt: skip
    columns = [
        Column("points", f"{_POINTS:,} points", seconds), Column("search", f"search of {_RUNS:,} runs", seconds),
    ]  # fmt: skip
    tell(results, "Windlass", columns, "what comes back")
    for column in columns:
        svg = bars(f"Reading back: {column.title}", chart(results, column.key), seconds)
        publish(f"peer_reading_{column.key}", svg, f"Time to read back, with each tool: {column.title}")
    note(
        f"The search finds {_RUNS // _TAGS // 2} runs. Aim finds a run once `aim up` or "
        "`aim storage reindex` has seen it; that was done before."
    )


def _reading(
    begin: Callable[[ExitStack], Worker], needs_index: bool = False
) -> Callable[[ExitStack], Callable[[], Times]]:
    points, runs = 1_000 if quick() else _POINTS, _runs()

    def start(stack: ExitStack) -> Callable[[], Times]:
        tool = begin(stack)
        run = tool("fill", points=points)["run"]
        tool("fill_runs", count=runs)
        if needs_index:
            tool("index")
        return lambda: {
            "points": tool("read", run=run, points=points)["seconds"], "search": tool("search", **_wanted())["seconds"],
        }  # fmt: skip

    return start


def _query(begin: Callable[[ExitStack], Worker]) -> Callable[[ExitStack], Callable[[], Times]]:
    """After ``_reading`` by the same worker."""

    def start(stack: ExitStack) -> Callable[[], Times]:
        tool = begin(stack)
        return lambda: {"search": tool("query", **_wanted())["seconds"]}

    return start


def _runs() -> int:
    return 20 if quick() else _RUNS


def _wanted() -> dict[str, object]:
    """One of the tags, and a bound that half of the runs keep."""
    return {"batch": "3", "below": 0.5, "expected": _runs() // _TAGS // 2}


def _million(begin: Callable[[ExitStack], Worker]) -> Callable[[ExitStack], Callable[[], Times]]:
    points = 10_000 if quick() else 1_000_000

    def start(stack: ExitStack) -> Callable[[], Times]:
        tool = begin(stack)
        run = tool("fill", points=points)["run"]
        return lambda: {"points": tool("read", run=run, points=points)["seconds"]}

    return start


def _not_offered(stack: ExitStack) -> Callable[[], Times]:
    raise CannotMeasure("its client reads back from a W&B server only, and there is none without an account or Docker")


if __name__ == "__main__":
    main()
