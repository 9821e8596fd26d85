"""What all benchmarks share: rows of results, interleaved rounds, and small statistics."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

Timed = Mapping[str, Callable[[], float | None]]


@dataclass(frozen=True)
class Row:
    """One line of ``RESULTS.md``. Texts have their units; what does not apply stays empty."""

    what: str
    measured: str
    baseline: str = ""
    """What it is held against, measured beside it in the same run."""
    compared: str = ""
    """The ratio to the baseline, or the difference."""
    target: str = ""
    """DESIGN's; a row without one explains another."""
    met: bool | None = None


def rounds(usual: int) -> int:
    """How often to measure: as usual, or once for a look whether everything runs (``scripts/bench --quick``)."""
    return 1 if quick() else usual


def quick() -> bool:
    """True when this is such a look: sizes may be small too."""
    return os.environ.get("BENCH_QUICK") == "1"


def full() -> bool:
    """True when sizes that take long or much disk are wanted too (``BENCH_FULL=1``)."""
    return os.environ.get("BENCH_FULL") == "1"


def tell(row: Row) -> None:
    """Print the row as a JSON line, for ``_report.py`` to read."""
    print(json.dumps(asdict(row)), flush=True)


def table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table with columns of its own as a JSON line."""
    print(json.dumps({"columns": list(columns), "cells": [list(row) for row in cells]}), flush=True)


def note(text: str) -> None:
    """Print a sentence that goes below the table."""
    print(json.dumps({"note": text}), flush=True)


def interleaved(rounds: int, timed: Timed) -> dict[str, list[float]]:
    """Seconds of each call by name. Every round does each once, so that noise of the machine hits all of them.

    A call that returns a number is taken at its word (it timed itself). One round more, the first, is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, call in timed.items():
            began = time.perf_counter()
            own = call()
            spent = time.perf_counter() - began if own is None else own
            if number:
                seconds[name].append(spent)
    return seconds


def median_of_pairs(ours: Sequence[float], bare: Sequence[float], compare: Callable[[float, float], float]) -> float:
    """Median over rounds of ``compare(ours, bare)``: each is compared with its own neighbour."""
    return statistics.median(compare(a, b) for a, b in zip(ours, bare, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ms(seconds: float) -> str:
    """Seconds as milliseconds, with as many digits as make sense."""
    value = seconds * 1000
    return f"{value:.3f} ms" if abs(value) < 1 else f"{value:.1f} ms" if abs(value) < 100 else f"{value:.0f} ms"
