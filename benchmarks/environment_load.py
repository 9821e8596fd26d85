"""What a job loses while an environment is made beside it: by Windlass, by bare uv, by pip.

A run keeps every core busy and counts its steps. Meanwhile an environment is made cold: packages are fetched from an
index on this machine, one is built from its sources (computing on every core), all are installed; afterwards Windlass
compiles bytecode. Bare uv and pip do the same beside the same run; a lower rate of steps is what it costs the job.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _measure import Row, note, rounds, tell
from _package_index import download, only_index, variables, write_pages
from _plot import BARE, OURS, PEER, Bar, bars, publish, seconds
from _workspace import cluster, config, experiment, watch, workspace
from uv import find_uv_bin

from windlass import Workspace
from windlass.specs._codec import to_wire
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.interpreters import own
from windlassd.testing.packages import source, wheel, wheel_name

LIST = ("numpy", "requests")
_SOURCE = "built-from-source"
_BUILD_CPU_S = 1.0
_ALONE_S = 5.0
_COUNTING = """
import multiprocessing, os, time

def count(steps, n):
    while True:
        sum(range(20000))
        steps[n] += 1

if __name__ == "__main__":
    steps = multiprocessing.Array("Q", os.cpu_count(), lock=False)
    for n in range(os.cpu_count()):
        multiprocessing.Process(target=count, args=(steps, n), daemon=True).start()
    while True:
        time.sleep(0.1)
        print("steps", sum(steps), time.time())
"""
_BURN = (
    "import subprocess, sys; burn = [sys.executable, '-c', 'import time\\nwhile time.process_time() < SECONDS: pass']; "
    "[p.wait() for p in [subprocess.Popen(burn) for _ in range(os.cpu_count())]]"
)


class _Counter:
    """The run that counts; how fast it does between two moments."""

    def __init__(self, ws: Workspace) -> None:
        self._told: list[tuple[float, int]] = []
        self._run = experiment(ws, "load").submit(config(_COUNTING, cluster(ws, 1)))
        self._thread = threading.Thread(target=watch, args=(self._run, self._seen), daemon=True)
        self._thread.start()
        while len(self._told) < 3:
            time.sleep(0.05)

    def _seen(self, line: str, when: float) -> None:
        if line.startswith("steps "):
            _, steps, at = line.split()
            self._told.append((float(at), int(steps)))

    def rate(self, begin: float, end: float) -> float:
        """Steps per second between two moments."""
        while self._told[-1][0] < end:
            time.sleep(0.05)
        inside = [told for told in self._told if begin <= told[0] <= end + 0.1]
        (first_at, first), (last_at, last) = inside[0], inside[-1]
        return (last - first) / (last_at - first_at)

    def stop(self) -> None:
        """End the run."""
        self._run.cancel()
        self._thread.join(30)


class _Makers:
    """Those who make the environment, each with empty caches, and anew each time."""

    def __init__(self, ws: Workspace, home: Path) -> None:
        self._ws, self._home = ws, home
        self._made = 0
        self._key = ""

    def windlass(self) -> None:
        """Through the server, until a run could start."""
        spec = EnvironmentSpec(python_version=own().version, pip_packages=self._list())
        build = self._ws._client.post("/v1/environment-builds", {"spec": to_wire(spec)})
        while build["status"] == "Running":
            build = self._ws._client.get(f"/v1/environment-builds/{build['id']}", line=build["next"], wait_s=20)
        assert build["status"] == "Succeeded", build["error"]
        self._key = build["key"]

    def settling(self) -> None:
        """Some seconds of what goes on behind it; then it is removed, which ends that."""
        time.sleep(_ALONE_S)
        self._ws._client.delete(f"/v1/environments/{self._key}")

    def uv(self) -> None:
        """By hand."""
        folder = self._home / f"uv-{time.monotonic_ns()}"
        _call(find_uv_bin(), "venv", "--quiet", "--python", own().path, str(folder))
        python = str(folder / "bin" / "python")
        _call(find_uv_bin(), "pip", "install", "--quiet", "--python", python, *self._list())
        shutil.rmtree(folder)

    def pip(self) -> None:
        """By hand; it compiles bytecode unasked."""
        folder = self._home / f"pip-{time.monotonic_ns()}"
        _call(own().path, "-m", "venv", str(folder))
        _call(str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *self._list())
        shutil.rmtree(folder)

    def _list(self) -> tuple[str, ...]:
        """The requirements, one of them new, and all of them in no cache."""
        for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR"):
            shutil.rmtree(os.environ[name], ignore_errors=True)
        self._made += 1
        mark = f"mark{self._made}"
        (self._home / "index" / wheel_name(mark)).write_bytes(wheel(mark))
        write_pages(self._home / "index")
        return (*LIST, _SOURCE, mark)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds(2))
    args = parser.parse_args()
    home = Path(os.environ["WINDLASS_HOME"])
    index = home / "index"
    download(LIST, index)
    burn = _BURN.replace("SECONDS", str(_BUILD_CPU_S))
    (index / f"{_SOURCE}-1.0.tar.gz").write_bytes(source(_SOURCE, before=burn))
    caches = {"UV_CACHE_DIR": str(home / "cache-uv"), "PIP_CACHE_DIR": str(home / "cache-pip")}
    with only_index(index), variables(**caches):
        ws = workspace()
        makers = _Makers(ws, home)
        counter = _Counter(ws)
        each = {"Windlass": makers.windlass, "after": makers.settling, "uv": makers.uv, "pip": makers.pip}
        found = _rates(counter, each, args.rounds)
        counter.stop()
    _tell(found)


def _rates(
    counter: _Counter, makers: Mapping[str, Callable[[], None]], count: int
) -> dict[str, list[tuple[float, float]]]:
    """For each maker and round: the job's rate as a share of its rate alone in that round, and for how many seconds."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for _ in range(count):
        began = time.time()
        time.sleep(_ALONE_S)
        alone = counter.rate(began, time.time())
        for name, make in makers.items():
            began = time.time()
            make()
            ended = time.time()
            found[name].append((counter.rate(began, ended) / alone, ended - began))
    return found


def _tell(found: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    shares = {name: statistics.median(share for share, _ in rates) for name, rates in found.items()}
    spent = {name: statistics.median(spent for _, spent in rates) for name, rates in found.items()}
    lost = {name: statistics.median((1 - share) * spent for share, spent in rates) for name, rates in found.items()}
    for name, what in (
        ("Windlass", "a job's rate while Windlass makes an environment"),
        ("after", "… then, while its bytecode is compiled"),
        ("uv", "… while bare uv makes one"), ("pip", "… while pip makes one"),
    ):  # fmt: skip
        bare = f"bare uv: {shares['uv']:.0%}" if name == "Windlass" else ""
        rate = f"{shares[name]:.0%} of alone, for {spent[name]:.0f} s"
        tell(Row(what, rate, bare, f"{seconds(lost[name])} of the job's time lost"))
    note(
        f"{os.cpu_count()} processes count; {', '.join(LIST)} and a source package that computes for {_BUILD_CPU_S:g} "
        "s on each core, with empty caches; medians. Builds get what the job leaves, so they take longer beside one."
    )
    given = [Bar(label, shares[name], kind) for name, label, kind in (
        ("Windlass", "Windlass", OURS), ("uv", "bare uv", BARE), ("pip", "pip", PEER))]  # fmt: skip
    title = "A job's rate while an environment is made beside it"
    chart = bars(title, given, _percent, better="longer is better", log=False)
    publish("environment_load", chart, "what a job keeps of its speed while an environment is made")


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _call(*argv: str) -> None:
    subprocess.run(argv, cwd="/", check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
