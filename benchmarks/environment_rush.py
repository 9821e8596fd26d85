"""Many runs submitted at once on an environment that does not exist yet, beside one such run alone.

Through a real server; the packages come from an index on this machine that counts what it is asked and lets no page be
kept, so that each resolving and each installing asks it for every page. One run alone, then many at once, each time on
an environment that differs from all before by one small package. A run with an environment that is there is submitted
into the crowd. Then as many different environments at once: what the server takes for them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from _measure import Row, median_of_pairs, note, quick, rounds, tell
from _package_index import asked, download, only_index, variables, write_pages
from _plot import seconds
from _workspace import cluster, config, experiment, own_interpreter, record, workspace

from windlass import Environment, Run, ScriptRunConfig, Workspace
from windlass.conda_dependencies import CondaDependencies
from windlassd.envs.interpreters import own
from windlassd.testing.packages import wheel, wheel_name

LIST = ("numpy", "pandas", "scikit-learn", "matplotlib")
_SCRIPT = "print('here')\n"
_LOOK_S = 0.05
_CLIENTS = 16


class _Rush:
    """A workspace with a cluster that has a node for each run, and an index that new packages are put into."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.folder, self.runs = folder, runs
        self.ws = workspace()
        self.target = cluster(self.ws, runs + 1)
        self.there = config(_SCRIPT, self.target, own_interpreter())
        self._made = 0

    def new(self, count: int = 1, packages: Sequence[str] = LIST) -> list[ScriptRunConfig]:
        """Configurations with an environment each that nobody has asked for before."""
        numbers = range(self._made, self._made + count)
        self._made += count
        for n in numbers:
            (self.folder / wheel_name(f"mark{n}")).write_bytes(wheel(f"mark{n}"))
        write_pages(self.folder)
        return [config(_SCRIPT, self.target, _environment((*packages, f"mark{n}"))) for n in numbers]

    def started(self, jobs: Sequence[ScriptRunConfig]) -> float:
        """Seconds from the first submit until the last of these has started."""
        began = time.time()
        runs = _submitted(self.ws, jobs)
        return max(self.starts(runs)) - began

    def starts(self, runs: Sequence[Run]) -> list[float]:
        """When each started, once all have ended."""
        found = []
        for run in runs:
            run.wait_for_completion()
            history = record(self.ws, run.id)["history"]
            found.append(next(h["time"] for h in history if h["status"] == "Running"))
        return found

    def pages(self) -> int:
        """How often pages were asked of the index."""
        return sum(path.endswith("/") for path in asked(self.folder))


class _Watched:
    """The server with what it has started: the most memory and processes at a time, and CPU time."""

    def __init__(self, pid: int) -> None:
        self._server = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most_uv = self.most_threads = 0
        self.most_rss = 0

    def __enter__(self) -> _Watched:
        self._cpu = sum(self._server.cpu_times()[:2])
        self._rss = self._server.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()
        self.cpu_s = sum(self._server.cpu_times()[:2]) - self._cpu
        self.more_bytes = self.most_rss - self._rss

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.most_rss = max(self.most_rss, self._server.memory_info().rss)
            self.most_threads = max(self.most_threads, self._server.num_threads())
            self.most_uv = max(self.most_uv, sum(map(_is_uv, self._server.children(recursive=True))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5 if quick() else 50)
    parser.add_argument("--rounds", type=int, default=rounds(3))
    args = parser.parse_args()
    home = Path(os.environ["WINDLASS_HOME"])
    download(LIST, home / "index")
    with only_index(home / "index", max_age_s=0), variables(UV_CACHE_DIR=str(home / "uv")):
        rush = _Rush(home / "index", args.runs)
        rush.started(rush.new())  # fills uv's cache
        _together(rush, args.rounds)
        _different(rush, args.runs)
    note(f"{', '.join(LIST)}, Python {own().version}, uv's cache is warm; medians of {args.rounds} rounds in turns.")


def _together(rush: _Rush, count: int) -> None:
    one, many, ready, cached, beside, pages = [], [], [], [], [], []
    for _ in range(count):
        before = rush.pages()
        one.append(rush.started(rush.new()))
        between = rush.pages()
        crowd = rush.new() * rush.runs
        began = time.time()
        runs = _submitted(rush.ws, crowd)
        beside.append(rush.started([rush.there]))
        many.append(max(rush.starts(runs)) - began)
        pages.append((between - before, rush.pages() - between))
        ready.append(rush.started(crowd))
        cached.append(rush.started([rush.there]))
    built = statistics.median(after / max(before, 1) for before, after in pages)
    tell(Row(f"{rush.runs} runs at once: resolved and built", f"{built:g} times ({pages[-1][1]} pages asked)",
             f"one run: {pages[-1][0]} pages", "", "once", built == 1))  # fmt: skip
    more = median_of_pairs(many, one, lambda a, b: a - b)
    tell(Row(f"… until all {rush.runs} have started", seconds(statistics.median(many)),
             f"one run alone: {seconds(statistics.median(one))}", f"{seconds(more)} more"))  # fmt: skip
    tell(Row("… the same with the environment there already", seconds(statistics.median(ready))))
    tell(Row("… a run with another, ready environment, submitted after them: it starts after",
             seconds(statistics.median(beside)), f"alone: {seconds(statistics.median(cached))}"))  # fmt: skip


def _different(rush: _Rush, count: int) -> None:
    jobs = rush.new(count, ("numpy",))
    (alone,) = rush.new(1, ("numpy",))
    one_s = rush.started([alone])
    with _Watched(rush.ws._client.get("/v1/server")["pid"]) as watched:
        began = time.time()
        runs = _submitted(rush.ws, jobs)
        beside_s = rush.started([rush.there])
        all_s = max(rush.starts(runs)) - began
    tell(Row(f"{count} runs at once, each with a new environment of its own: until all have started", seconds(all_s),
             f"one run alone: {seconds(one_s)}", f"{all_s / count / one_s:.2f}x each"))  # fmt: skip
    tell(Row("… a run with a ready environment, submitted after them: it starts after", seconds(beside_s)))
    took = f"{watched.cpu_s / count * 1000:.0f} ms CPU each, {watched.more_bytes >> 20} MiB more"
    tell(Row("… the server meanwhile", f"{took}, {watched.most_threads} threads, {watched.most_uv} uv at a time"))


def _submitted(ws: Workspace, jobs: Sequence[ScriptRunConfig]) -> list[Run]:
    with ThreadPoolExecutor(_CLIENTS) as clients:
        return list(clients.map(lambda job: experiment(ws, "rush").submit(job), jobs))


def _environment(packages: Sequence[str]) -> Environment:
    made = Environment("rush")
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=list(packages))
    made.python.conda_dependencies.set_python_version(own().version)
    return made


def _is_uv(process: psutil.Process) -> bool:
    try:
        return process.name() == "uv"
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


if __name__ == "__main__":
    main()
