"""What importing each client costs in a fresh interpreter of its own environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

from _measure import note, rounds
from _peers import NAMES, CannotMeasure, Column, Contestant, Times, chart, peer, race, tell
from _plot import OURS, bars, publish, seconds


def main() -> None:
    results = race([
        Contestant("Windlass, lazy", "`import windlass`", _importing("import windlass"), OURS),
        Contestant("Windlass", "`from windlass import Workspace, Experiment, Estimator`",
                   _importing("from windlass import Workspace, Experiment, Estimator"), OURS),
        *(Contestant(NAMES[name], f"`import {name}`", _importing(f"import {name}", name)) for name in NAMES),
    ], rounds(7))  # fmt: skip
    tell(results, "Windlass", [Column("import", "import", seconds)], "what is imported")
    publish("peer_imports", bars("Importing the client", chart(results, "import"), seconds), "Importing each client")
    note("The files are in the page cache, bytecode is compiled.")


def _importing(code: str, name: str = "") -> Callable[[ExitStack], Callable[[], Times]]:
    timed = f"import time; began = time.perf_counter(); {code}; print(time.perf_counter() - began)"

    def start(stack: ExitStack) -> Callable[[], Times]:
        python = peer(name) if name else sys.executable
        return lambda: {"import": _spent([python, "-c", timed])}

    return start


def _spent(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(done.stderr.strip().rpartition("\n")[2])
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
