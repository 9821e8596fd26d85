"""A run that leaves 1 GiB in `outputs/`: how long from its last byte until it is final, beside a `cp` of as much.

The script writes its outputs and says when it is done; the run's record says when it was final. Checksums may follow:
`verified` tells when the record had them. Whole: the run from `submit` to final, beside the same script by hand.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from _measure import Row, interleaved, median_of_pairs, ms, note, quick, rounds, tell
from _workspace import config, experiment, record, watch, workspace

_TARGET = 1.2
_SCRIPT = """
import os, shutil, sys, time
os.makedirs("outputs", exist_ok=True)
shutil.copyfile(sys.argv[1], "outputs/model.bin")
sys.stdout.write("written %.6f\\n" % time.time())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=16 if quick() else 1024)
    parser.add_argument("--rounds", type=int, default=rounds(3))
    args = parser.parse_args()
    home = os.environ["WINDLASS_HOME"]
    source = os.path.join(home, "source.bin")
    with open(source, "wb") as f:
        for _ in range(args.mib):
            f.write(os.urandom(1 << 20))
    ours, bare = _Runs(source), _Bare(home, source)
    seconds = interleaved(args.rounds, {"cp": bare.cp, "by hand": bare.by_hand, "run": ours.whole})
    cp, finals = seconds["cp"], ours.finals[1:]
    share = median_of_pairs(finals, cp, lambda a, b: a / b)
    size = f"{args.mib / 1024:g} GiB"
    tell(Row(
        f"{size} of outputs: last byte → run final", ms(statistics.median(finals)),
        f"`cp`: {ms(statistics.median(cp))}", f"{share:.2f}x", f"≤ {_TARGET}x", share <= _TARGET,
    ))  # fmt: skip
    whole = median_of_pairs(seconds["run"], seconds["by hand"], lambda a, b: a / b)
    tell(Row(
        "… the whole run, submit → final", ms(statistics.median(seconds["run"])),
        f"the script by hand: {ms(statistics.median(seconds['by hand']))}", f"{whole:.2f}x",
    ))  # fmt: skip
    tell(Row("… checksum in the record, after final", ms(statistics.median(ours.verified[1:]))))
    note("The checksum is waited for before the next measurement.")


class _Runs:
    def __init__(self, source: str) -> None:
        self.ws = workspace()
        self.config = config(_SCRIPT, "local", arguments=[source])
        self.finals: list[float] = []
        self.verified: list[float] = []

    def whole(self) -> float:
        """Seconds from submit to final."""
        written: list[float] = []

        def seen(line: str, when: float) -> None:
            if line.startswith("written "):
                written.append(float(line.split()[1]))

        began = time.time()
        run = experiment(self.ws).submit(self.config)
        watch(run, seen)
        told = record(self.ws, run.id)
        ended = told["history"][-1]["time"]
        while not told["verified"]:
            time.sleep(0.02)
            told = record(self.ws, run.id)
        self.verified.append(time.time() - ended)
        self.finals.append(ended - written[0])
        shutil.rmtree(os.path.join(self.ws._dir, "runs", run.id))
        return float(ended - began)


class _Bare:
    def __init__(self, home: str, source: str) -> None:
        self.folder = os.path.join(home, "by-hand")
        os.mkdir(self.folder)
        self.source = source

    def cp(self) -> float:
        """Seconds of a `cp`."""
        return self._time(partial(subprocess.run, ["/bin/cp", self.source, "copy.bin"], cwd=self.folder, check=True))

    def by_hand(self) -> float:
        """Seconds of the script itself."""
        command = [sys.executable, "-c", _SCRIPT, self.source]
        run = partial(subprocess.run, command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        return self._time(run)

    def _time(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        spent = time.perf_counter() - began
        for entry in os.scandir(self.folder):
            shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
        return spent


if __name__ == "__main__":
    main()
