"""What questions cost as the history grows: 1,000 to 100,000 runs in the store, beside the bare SQL query.

The bare query is what sqlite3 needs to fetch the same rows on a connection that is open already, without making
records, JSON or a page of them, and without a server in between. The runs come from `_history.py`; pages are fetched as
a browser does, calls over the workspace's socket as the SDK does.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import time
from functools import partial
from typing import Any

from _growth import Cost, Pages, Question, by_size, compare, held_by, mib, plot, processes
from _history import fill
from _measure import Row, ms, note, quick, rounds, table, tell
from _plot import seconds
from _workspace import workspace

from windlass import Experiment, Workspace
from windlass._transport import autostart, places

_SIZES = (1_000, 10_000, 100_000)
_MOST_S, _MOST_TIMES = 0.3, 3.0
_RECORD = (
    "SELECT runs.*, experiments.name, run_specs.spec FROM runs JOIN experiments ON experiments.id = experiment_id"
    " JOIN run_specs ON run_seq = runs.seq WHERE runs.seq IN ({}) ORDER BY runs.seq DESC"
)
_NEWEST = "SELECT seq FROM runs WHERE parent_id IS NULL {} ORDER BY seq DESC LIMIT {}"
_TAGGED = (
    "SELECT run_seq FROM run_tags WHERE key = 'model' AND value = 'net-3' AND EXISTS (SELECT 1 FROM runs WHERE"
    " seq = run_seq AND parent_id IS NULL) ORDER BY run_seq DESC LIMIT 51"
)
_MEASURED = (
    "SELECT run_seq FROM series WHERE name = 'loss' AND type IN ('int', 'float') AND CAST(last AS REAL) < {} AND EXISTS"
    " (SELECT 1 FROM runs WHERE seq = run_seq AND parent_id IS NULL) ORDER BY run_seq DESC LIMIT 51"
)
_COMPARED = (
    "SELECT runs.id, series.* FROM runs JOIN series ON series.run_seq = runs.seq WHERE runs.id IN ({}) AND length > 0"
    " ORDER BY run_seq, series.id"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES[:2] if quick() else _SIZES)
    parser.add_argument("--rounds", type=int, default=rounds(21))
    args = parser.parse_args()
    sizes: list[int] = args.sizes
    costs: dict[str, Cost] = {}
    states: dict[str, list[str]] = {}
    starts: dict[int, float] = {}
    for size in sizes:
        began = time.perf_counter()
        folder = places.workspace_dir(f"runs-{size}")
        fill(folder, size)
        filled_s = time.perf_counter() - began
        measured = _Measured(folder, size)
        starts[size] = measured.start_s
        for name, (ours, bare) in measured.questions().items():
            compare(costs, name, size, args.rounds, ours, bare)
        for name, state in {**measured.state(), "… filled in": f"{filled_s:.1f} s"}.items():
            states.setdefault(name, []).append(state)
        measured.stop()
    by_size("question", "runs", costs, sizes)
    table(["", *(f"{size:,} runs" for size in sizes)], [[name, *cells] for name, cells in states.items()])
    for name in ("runs page, 50 runs", "compare 100 runs"):
        _judge(name, costs[name], sizes[-1])
    shown = {name: cost.ours for name, cost in costs.items() if name in _DRAWN}
    plot("growth_store", "Questions as the history grows", {**shown, "server start": starts}, "runs in the store",
         "seconds", seconds, target=_MOST_S, target_label="most for a page: 300 ms")  # fmt: skip
    note(
        f"Medians of {args.rounds} interleaved rounds. The server starts when a client first calls; nothing is cached."
    )


_DRAWN = ("runs page, 50 runs", "compare 100 runs", "filter: a metric that 1 in 1,000 fits", "a run's page")


def _judge(name: str, cost: Cost, size: int) -> None:
    ours, bare = cost.ours[size], cost.bare[size]
    target = f"≤ {_MOST_S * 1000:.0f} ms and ≤ {_MOST_TIMES:g}x"
    met = ours <= _MOST_S and ours / bare <= _MOST_TIMES
    tell(Row(f"{name}, of {size:,}", ms(ours), f"bare SQL: {ms(bare)}", f"{ours / bare:.1f}x", target, met))


class _Measured:
    """A workspace with its server up, and the questions that are put to it."""

    def __init__(self, folder: str, size: int) -> None:
        self.size = size
        began = time.perf_counter()
        autostart.ensure_server(folder)
        self.start_s = time.perf_counter() - began
        self.ws: Workspace = workspace(os.path.basename(folder))
        self.pids = processes(self.ws)
        self.first = held_by(self.pids["server"])
        self.client = self.ws._client
        self.pages = Pages(self.ws)
        self.file = os.path.join(folder, "windlass.db")
        self.database = sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)
        self.database.execute("PRAGMA cache_size=-32768")
        listed = self.client.get("/v1/runs", limit=1000)["runs"]
        self.ids = [run["id"] for run in listed]
        self.middle = self.database.execute("SELECT id FROM runs WHERE seq = ?", (size // 2,)).fetchone()[0]

    def questions(self) -> dict[str, tuple[Question, Question]]:
        """Ours and the bare query, by what is asked."""
        run, page = partial(self.client.get, "/v1/runs", limit=50), self.pages.get
        some = self.ids[:1000:10]
        few = 0.001
        middle = f"AND seq < {self.size // 2}"
        return {
            "runs page, 50 runs": (partial(page, "/runs"), self._bare(_NEWEST.format("", 51))),
            "… from the middle on": (
                partial(page, f"/runs?before={self.middle}"), self._bare(_NEWEST.format(middle, 51)),
            ),
            "list 50 runs": (run, self._bare(_NEWEST.format("", 51))),
            "list 1,000 runs": (partial(self.client.get, "/v1/runs", limit=1000), self._bare(_NEWEST.format("", 1001))),
            "filter: status": (
                partial(run, status="Failed"), self._bare(_NEWEST.format("AND status = 'Failed'", 51)),
            ),
            "filter: experiment": (
                partial(run, experiment="study-3"), self._bare(_NEWEST.format("AND experiment_id = 4", 51)),
            ),
            "filter: a tag that 1 in 7 has": (partial(run, tag="model=net-3"), self._bare(_TAGGED)),
            "filter: a metric that half of all fit": (
                partial(run, metric="loss<0.5"), self._bare(_MEASURED.format(0.5)),
            ),
            "filter: a metric that 1 in 1,000 fits": (
                partial(run, metric=f"loss<{few}"), self._bare(_MEASURED.format(few)),
            ),
            "compare 100 runs": (partial(self.client.get, "/v1/compare", run=some), partial(self._compare, some)),
            "runs per experiment": (
                partial(self.client.get, "/v1/experiments"), partial(self._all, "SELECT * FROM experiments"),
            ),
            "a run's page": (partial(page, f"/runs/{self.middle}"), partial(self._run, self.middle)),
        }  # fmt: skip

    def state(self) -> dict[str, str]:
        """What the server holds after all these questions."""
        now = held_by(self.pids["server"])
        agent = held_by(self.pids["agent"])
        return {
            "server start, until it answers": ms(self.start_s),
            "memory of the server, when started": mib(self.first.pss_bytes),
            "… after all these questions": mib(now.pss_bytes),
            "… its threads and open files": f"{now.threads}, {now.files}",
            "memory of the agent": mib(agent.pss_bytes),
            "database": mib(os.path.getsize(self.file)),
            "all runs, by the SDK": ms(self._listed()),
        }

    def stop(self) -> None:
        """End the server, which lets go of its memory, and drop the database."""
        self.client.post("/v1/server/stop", {"force": True})
        self.database.close()
        os.unlink(self.file)

    def _listed(self) -> float:
        began = time.perf_counter()
        count = sum(1 for _ in Experiment(self.ws, "study-3").get_runs())
        assert count == self.size // 20
        return (time.perf_counter() - began) * 20

    def _bare(self, chosen: str) -> Question:
        return partial(self._all, _RECORD.format(chosen))

    def _compare(self, run_ids: list[str]) -> None:
        marks = ", ".join("?" * len(run_ids))
        self._all(_RECORD.format(f"SELECT seq FROM runs WHERE id IN ({marks})"), run_ids)
        self._all(_COMPARED.format(marks), run_ids)

    def _run(self, run_id: str) -> None:
        seq = self.database.execute("SELECT seq FROM runs WHERE id = ?", (run_id,)).fetchone()[0]
        self._all(_RECORD.format("?"), [seq])
        for name in ("run_history", "run_files", "series"):
            self._all(f"SELECT * FROM {name} WHERE run_seq = ?", [seq])

    def _all(self, query: str, values: Any = ()) -> None:
        self.database.execute(query, values).fetchall()


if __name__ == "__main__":
    main()
