"""``run.log`` per point beside an ``os.write`` of the same bytes, interleaved in one process. Prints one JSON line."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time

_ROUNDS, _POINTS = 30, 2000
_FRAME = b"x" * 37
_TARGET = 12.0


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(AZUREML_RUN_ID="bench", WINDLASS_WORKSPACE_DIR=folder, WINDLASS_SPOOL_DIR=folder + "/spool")
        from windlass import Run

        log = Run.get_context().log
        fd = os.open(folder + "/bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        log("loss", 0.5)
        bare, ours = [], []
        for _ in range(_ROUNDS):
            bare.append(_time(lambda value: os.write(fd, _FRAME)))
            ours.append(_time(lambda value: log("loss", value)))
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    print(json.dumps({
        "benchmark": "log_point", "python": platform.python_version(), "bare_us": round(min(bare) * 1e6, 3),
        "log_us": round(min(ours) * 1e6, 3), "ratio": round(ratio, 2), "target": _TARGET, "met": ratio <= _TARGET,
    }))  # fmt: skip


def _time(call) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    for _ in range(_POINTS):
        call(0.5)
    return (time.perf_counter() - started) / _POINTS


if __name__ == "__main__":
    sys.exit(main())
