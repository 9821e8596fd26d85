"""What a run's outputs cost as they grow: 10 to 10,000 files, and 1 MiB to 1 GiB (10 GiB with `BENCH_FULL=1`).

From the script's last byte until the run is final, and until its record has all checksums, beside a `cp -r` of the same
files, which Windlass does not need: a run's folder is its place in the history. Everything is written anew
in each round. 10 GiB need 40 GiB of free disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence

from _growth import Pages, held_by, mib, plot, processes
from _measure import full, ms, note, quick, rounds, table
from _plot import seconds
from _workspace import config, experiment, record, watch, workspace

from windlass import ScriptRunConfig, Workspace

_COUNTS, _FILE_BYTES = (10, 100, 1_000, 10_000), 1024
_MIBS, _MOST_MIB, _FREE_GIB = (1, 10, 100, 1024), 10 * 1024, 40
_SCRIPT = """
import os, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2])
piece = os.urandom(min(size, 1 << 20))
os.makedirs("outputs", exist_ok=True)
for number in range(count):
    folder = "outputs/part-%03d" % (number // 100)
    if number % 100 == 0:
        os.makedirs(folder)
    with open("%s/%05d.bin" % (folder, number), "wb") as f:
        for _ in range(max(1, size // len(piece))):
            f.write(piece)
sys.stdout.write("written %.6f\\n" % time.time())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=_COUNTS[:2] if quick() else _COUNTS)
    parser.add_argument("--mibs", type=int, nargs="*", default=_MIBS[:2] if quick() else _sizes())
    parser.add_argument("--rounds", type=int, default=rounds(3))
    args = parser.parse_args()
    measure = _Measured(workspace(), args.rounds)
    measure.once(1, 1024)  # warm
    by_count = {count: measure.of(count, _FILE_BYTES) for count in args.counts}
    _tell("files of 1 KiB", [f"{count:,}" for count in args.counts], by_count)
    by_size = {size: measure.of(1, size << 20) for size in args.mibs}
    _tell("one file of", [f"{size:,} MiB" for size in args.mibs], by_size)
    for name, what, found in (("files", "files of 1 KiB", by_count), ("bytes", "MiB in a file", by_size)):
        drawn = {title: {at: cost[key] for at, cost in found.items()} for key, title in _DRAWN.items()}
        plot(f"growth_{name}", f"From the last byte to final: {what}", drawn, what, "seconds", seconds)
    note(f"Medians of {args.rounds} rounds" + ("; of 10 GiB one." if _MOST_MIB in args.mibs else "."))


_DRAWN = {
    "final": "run final",
    "verified": "all checksums recorded",
    "cp": "cp -r",
    "listed": "files listed, by the SDK",
}
_ROWS = {
    "final": "last byte → run final", "cp": "`cp -r` of the same", "verified": "last byte → all checksums recorded",
    "listed": "files listed, by the SDK", "page": "the run's page", "server": "memory of the server",
    "agent": "memory of the agent",
}  # fmt: skip
_MEMORY = ("server", "agent")


def _sizes() -> Sequence[int]:
    room = shutil.disk_usage(os.environ["WINDLASS_HOME"]).free >> 30
    return (*_MIBS, _MOST_MIB) if full() and room >= _FREE_GIB else _MIBS


def _tell(what: str, sizes: Sequence[str], found: Mapping[int, Mapping[str, float]]) -> None:
    rows = [[title, *(_cell(key, cost) for cost in found.values())] for key, title in _ROWS.items()]
    table([what, *sizes], rows)


def _cell(key: str, cost: Mapping[str, float]) -> str:
    if key in _MEMORY:
        return mib(cost[key])
    return ms(cost[key]) + (f" ({cost['final'] / cost['cp']:.2f}x `cp`)" if key == "final" else "")


class _Measured:
    """Runs that leave files, each deleted when it was measured."""

    def __init__(self, ws: Workspace, count: int) -> None:
        self.ws, self.count = ws, count
        self.pids, self.pages = processes(ws), Pages(ws)
        self.aside = os.path.join(os.environ["WINDLASS_HOME"], "aside")

    def of(self, files: int, size: int) -> dict[str, float]:
        """The medians of some rounds."""
        count = 1 if size >= _MOST_MIB << 20 else self.count
        found = [self.once(files, size) for _ in range(count)]
        return {key: statistics.median(round_[key] for round_ in found) for key in found[0]}

    def once(self, files: int, size: int) -> dict[str, float]:
        """One round."""
        written: list[float] = []
        run = experiment(self.ws).submit(self._job(files, size))
        watch(run, lambda line, _: written.append(float(line.split()[1])) if line.startswith("written ") else None)
        told = record(self.ws, run.id)
        assert told["status"] == "Completed", told["reason"]
        final = verified = told["history"][-1]["time"] - written[0]
        while not told["verified"]:
            time.sleep(0.01)
            told, verified = record(self.ws, run.id), time.time() - written[0]
        found = {"final": final, "verified": verified, **self._asked(run.id, files)}
        found.update({name: float(held_by(pid).pss_bytes) for name, pid in self.pids.items()})
        found["cp"] = self._copied(run.id)
        return found

    def _job(self, files: int, size: int) -> ScriptRunConfig:
        return config(_SCRIPT, "local", arguments=[str(files), str(size)])

    def _asked(self, run_id: str, files: int) -> dict[str, float]:
        began = time.perf_counter()
        kept = self.ws._client.get(f"/v1/runs/{run_id}/files")["files"]
        listed = time.perf_counter() - began
        assert sum(entry["path"].startswith("outputs/") for entry in kept) == files
        began = time.perf_counter()
        self.pages.get(f"/runs/{run_id}")
        return {"listed": listed, "page": time.perf_counter() - began}

    def _copied(self, run_id: str) -> float:
        """Seconds of a `cp -r` of what the run left; both are deleted then."""
        root = os.path.join(self.ws._dir, "runs", run_id)
        began = time.perf_counter()
        subprocess.run(["/bin/cp", "-r", os.path.join(root, "files", "outputs"), self.aside], check=True)
        spent = time.perf_counter() - began
        for folder in (self.aside, root):
            for at, below, _ in os.walk(folder):
                for name in below:
                    os.chmod(os.path.join(at, name), 0o700)
            shutil.rmtree(folder)
        return spent


if __name__ == "__main__":
    main()
