"""The side of a worker: does what ``_peers.Worker`` says, one JSON line after another, until its input ends."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def serve(**verbs: Callable[..., object]) -> None:
    """Answer each line with what its verb returns, or with its error; whatever is printed meanwhile goes to the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer: Any = verbs[asked["verb"]](**asked["given"]) or {}
        except Exception as problem:
            traceback.print_exc()
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
