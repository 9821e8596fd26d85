"""Logging one metric point: what the call costs, and what a point costs until another process can read it.

Each logs points of one series in a loop, then does what its documentation says for others to see them; the second
figure spreads that wait over the points. What holds when a call has returned is not the same for all: the last column.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from _measure import note, quick, rounds
from _peers import Column, Contestant, Times, Worker, chart, mlflow, race, tell, windlass, worker
from _plot import BARE, OURS, bars, publish, seconds

_MANY, _SOME, _FEW = 10_000, 400, 100
_KERNEL = "with the kernel, so it outlives the script; durable and readable after flush"
_MEMORY = "in the script's memory, lost with it before the flush; durable after"
_BATCH = "in the script's memory until 1,000 are there; then durable"


def main() -> None:
    ours, bare = windlass(), partial(worker, driver="drive_bare")
    sqlite, server = mlflow(served=False), mlflow(served=True)
    aim, wandb = (partial(worker, driver=f"drive_{name}", name=name) for name in ("aim", "wandb"))
    results = race([
        Contestant("os.write of the same bytes", "with the kernel; on disk after one fsync", _log(bare, _MANY), BARE),
        Contestant("… and an fsync for each", "durable", _log(bare, _FEW, each=True), BARE),
        Contestant("Windlass", _KERNEL, _log(ours, _MANY, how="job"), OURS),
        Contestant("Windlass, interactive run", _KERNEL, _log(ours, _MANY, how="interactive"), OURS),
        Contestant("Aim", "in its RocksDB, not synced; found once its indexer has seen it", _log(aim, _MANY)),
        Contestant("W&B offline", "sent to its own process; a file to be synced after finish", _log(wandb, _MANY)),
        Contestant("MLflow SQLite, log_batch of 1,000", _BATCH, _log(sqlite, _MANY, how="batch")),
        Contestant("MLflow SQLite, asynchronous", _MEMORY, _log(sqlite, _SOME, how="async")),
        Contestant("MLflow SQLite", "durable", _log(sqlite, _FEW, how="one")),
        Contestant("MLflow server, log_batch of 1,000", _BATCH, _log(server, _MANY, how="batch")),
        Contestant("MLflow server, asynchronous", _MEMORY, _log(server, _SOME, how="async")),
        Contestant("MLflow server", "durable", _log(server, _FEW, how="one")),
    ], rounds(5))  # fmt: skip
    columns = [Column("call", "one call", seconds), Column("readable", "one point until readable", seconds)]
    tell(results, "Windlass", columns, "what holds when the call returns")
    for key, title in (("call", "one call"), ("readable", "one point until another process can read it")):
        svg = bars(f"Logging a metric: {title}", chart(results, key), seconds)
        publish(f"peer_logging_{key}", svg, f"Logging a metric, {title}")
    note(
        f"{_FEW:,} to {_MANY:,} points a round, the slower the fewer. Windlass is `run.log` in a submitted script; "
        "MLflow's server and Windlass' are up before."
    )


def _log(
    begin: Callable[[ExitStack], Worker], points: int, **how: object
) -> Callable[[ExitStack], Callable[[], Times]]:
    count = min(points, 50) if quick() else points

    def measure(log: Worker) -> Times:
        took = log("log", points=count, **how)
        return {"call": took["calls"] / count, "readable": took["settled"] / count}

    return lambda stack: partial(measure, begin(stack))


if __name__ == "__main__":
    main()
