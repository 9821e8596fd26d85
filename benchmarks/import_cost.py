"""What imports cost beside a bare start of the same interpreter, called by its absolute path."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from functools import partial

from _measure import Row, interleaved, median_of_pairs, ms, note, rounds, tell

_ROUNDS = 25
_TARGET_S = 0.040
_IMPORTS = {
    "`import windlass`": "import windlass",
    "`from azureml.core import Run`": "from azureml.core import Run",
    "in a job: `from azureml.core import Run; Run.get_context()`": "from azureml.core import Run; Run.get_context()",
    "client: `from windlass import Workspace, Experiment, Estimator`":
        "from windlass import Workspace, Experiment, Estimator",
}  # fmt: skip
_JOB = {**os.environ, "AZUREML_RUN_ID": "r", "WINDLASS_WORKSPACE_DIR": "/nowhere", "WINDLASS_SPOOL_DIR": "/nowhere"}


def main() -> None:
    calls = {name: partial(_start, code) for name, code in _IMPORTS.items()}
    seconds = interleaved(rounds(_ROUNDS), {"bare": partial(_start, "pass"), **calls})
    bare = statistics.median(seconds["bare"])
    for name in _IMPORTS:
        more = median_of_pairs(seconds[name], seconds["bare"], lambda a, b: a - b)
        promised = name == "`import windlass`"  # the others are shown, not promised
        tell(Row(
            name, ms(statistics.median(seconds[name])), f"`python -c pass`: {ms(bare)}", f"{ms(more)} more",
            f"≤ {ms(_TARGET_S)} more" if promised else "", more <= _TARGET_S if promised else None,
        ))  # fmt: skip
    note("Most of `azureml.core` is `urllib.request`, which v1 left loaded and scripts rely on.")


def _start(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, env=_JOB if "get_context" in code else None)


if __name__ == "__main__":
    main()
