"""From `submit` to the first line on the waiting client's screen, beside the same script started by hand.

The environment is built and cached, the script prints one line. `Experiment.submit(ScriptRunConfig)`, then
`wait_for_completion(show_output=True)`; the bare script runs on the interpreter that the run got. Both are timed from
the call to the moment the line has arrived. Cold: no server and no agent run at the time of the call.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from typing import Any

from _measure import Row, interleaved, median_of_pairs, ms, note, percentile, rounds, tell
from _workspace import config, experiment, record, watch, workspace

from windlass import Environment
from windlass._transport.autostart import is_running

_SCRIPT = "import time\nprint('first line', time.time())\n"
_TARGET_S = 0.25
_STEPS = ("submit returns", "Running recorded", "line printed", "line seen", "final recorded", "wait returns")


class _Submission:
    """Submits again and again, and keeps the moments of each run."""

    def __init__(self) -> None:
        self.ws = workspace()
        self.config = config(_SCRIPT, "local", Environment("bench"))
        self.moments: list[dict[str, float]] = []
        self.python = ""

    def time(self) -> float:
        """Seconds from the call to the line."""
        marks: dict[str, float] = {}

        def seen(line: str, when: float) -> None:
            if line.startswith("first line"):
                marks["line seen"], marks["line printed"] = when, float(line.split()[-1])

        began = time.time()
        run = experiment(self.ws).submit(self.config)
        marks["submit returns"] = time.time()
        watch(run, seen)
        marks["wait returns"] = time.time()
        told = record(self.ws, run.id)
        history: list[Any] = told["history"]
        marks["Running recorded"] = next(h["time"] for h in history if h["status"] == "Running")
        marks["final recorded"] = history[-1]["time"]
        self.moments.append({name: when - began for name, when in marks.items()})
        self.python = told["environment"]["python"]
        return marks["line seen"] - began

    def cold(self) -> float:
        """As ``time``, after the server and its agent have gone."""
        server = self.ws._client.get("/v1/server")
        self.ws._client.post("/v1/server/stop", {"force": True})
        for pid in [server["pid"], *(agent["pid"] for agent in server["agents"])]:
            while _lives(pid):
                time.sleep(0.01)
        assert not is_running(self.ws._dir)
        return self.time()


class _Bare:
    def __init__(self, python: str) -> None:
        self.command = [python, os.path.join(os.environ["WINDLASS_HOME"], "bare.py")]
        with open(self.command[1], "w") as f:
            f.write(_SCRIPT)

    def time(self) -> float:
        """Seconds from the start to the line."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        began = time.time()
        with subprocess.Popen(self.command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None and process.stdout.readline()
            return time.time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds(20))
    parser.add_argument("--cold-rounds", type=int, default=rounds(4))
    args = parser.parse_args()
    ours = _Submission()
    ours.time()  # builds the environment
    bare = _Bare(ours.python)
    ours.moments.clear()
    warm = interleaved(args.rounds, {"bare": bare.time, "ours": ours.time})
    _tell("submit → first line, warm", warm, _TARGET_S)
    for step in _STEPS:
        tell(Row(f"… until: {step}", ms(statistics.median(m[step] for m in ours.moments[1:]))))
    cold = interleaved(args.cold_rounds, {"bare": bare.time, "ours": ours.cold})
    _tell("submit → first line, cold", cold, None)
    note("Medians of interleaved rounds; the steps count from the call of `submit`.")


def _tell(what: str, seconds: dict[str, list[float]], target_s: float | None) -> None:
    more = median_of_pairs(seconds["ours"], seconds["bare"], lambda a, b: a - b)
    tell(Row(
        what, f"{ms(statistics.median(seconds['ours']))} (p95 {ms(percentile(seconds['ours'], 95))})",
        f"`python script.py`: {ms(statistics.median(seconds['bare']))}", f"{ms(more)} more",
        f"≤ {ms(target_s)} more" if target_s else "", more <= target_s if target_s else None,
    ))  # fmt: skip


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main()
