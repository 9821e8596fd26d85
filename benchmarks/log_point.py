"""`run.log` per point beside an `os.write` of the same bytes to a file, in turns in one process."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

from _measure import Row, interleaved, median_of_pairs, rounds, tell

_ROUNDS, _POINTS = 40, 2000
_FRAME = b"x" * 37  # the size of a float point's frame
_TARGET = 12.0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(AZUREML_RUN_ID="bench", WINDLASS_WORKSPACE_DIR=folder, WINDLASS_SPOOL_DIR=folder + "/spool")
        from windlass import Run  # it reads the variables

        log = Run.get_context().log
        fd = os.open(folder + "/bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        calls = {
            "bare": partial(_time, lambda value: os.write(fd, _FRAME)),
            "ours": partial(_time, lambda value: log("loss", value)),
        }
        seconds = interleaved(rounds(_ROUNDS), calls)
    ratio = median_of_pairs(seconds["ours"], seconds["bare"], lambda a, b: a / b)
    tell(Row(
        "`run.log`, one point", f"{min(seconds['ours']) * 1e6:.2f} µs",
        f"`os.write` of {len(_FRAME)} bytes: {min(seconds['bare']) * 1e6:.2f} µs", f"{ratio:.1f}x",
        f"≤ {_TARGET:g}x", ratio <= _TARGET,
    ))  # fmt: skip


def _time(call: Callable[[float], object]) -> float:
    started = time.perf_counter()
    for _ in range(_POINTS):
        call(0.5)
    return (time.perf_counter() - started) / _POINTS


if __name__ == "__main__":
    main()
