"""What imports cost beside a bare interpreter start, by absolute path. Prints one JSON line for each import."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time

_ROUNDS = 15
_TARGET_MS = 40.0
_IMPORTS = {
    "import windlass": "import windlass",
    "job: Run.get_context": "from windlass import Run; Run.get_context()",
    "job: azureml.core": "from azureml.core import Run",
    "client: Workspace": "from windlass import Workspace, Experiment, Estimator",
}
_JOB = {**os.environ, "AZUREML_RUN_ID": "r", "WINDLASS_WORKSPACE_DIR": "/nowhere", "WINDLASS_SPOOL_DIR": "/nowhere"}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ["bare", *_IMPORTS]}
    for _ in range(_ROUNDS):
        seconds["bare"].append(_start("pass"))
        for name, code in _IMPORTS.items():
            seconds[name].append(_start(code))
    for name in _IMPORTS:
        more_ms = statistics.median(a - b for a, b in zip(seconds[name], seconds["bare"], strict=True)) * 1000
        target_ms = _TARGET_MS if name == "import windlass" else None  # the others are shown, not promised
        print(json.dumps({
            "benchmark": "import_cost", "what": name, "python": platform.python_version(),
            "bare_ms": round(statistics.median(seconds["bare"]) * 1000, 2), "more_ms": round(more_ms, 2),
            "target_ms": target_ms, "met": None if target_ms is None else more_ms <= target_ms,
        }))  # fmt: skip


def _start(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=_JOB if "get_context" in code else None)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
