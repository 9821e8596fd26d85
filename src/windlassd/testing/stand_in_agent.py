#!/usr/bin/env python3
"""Stands in for the interpreter of an agent elsewhere (``agent_python``) in tests of engines: quick, does nothing.

As an agent it starts a process that stands for a job, writes what it was told to ``/tmp/agents/NAME.json``, and ends
both when its standard input closes. ``/tmp/agents/fail`` makes it end at once, with the code and the words there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

_FOLDER = "/tmp/agents"


def main() -> int:
    """Facts for ``--facts``, else the agent's exit code."""
    if "--facts" in sys.argv:
        sys.stdout.write(json.dumps({"platform": "linux-x86_64-glibc2.36", "pythons": {"3.11.7": "/opt/python3.11"},
                                     "gpus": False}))  # fmt: skip
        return 0
    ticket = json.loads(sys.stdin.readline())
    os.makedirs(_FOLDER, exist_ok=True)
    try:
        with open(os.path.join(_FOLDER, "fail"), encoding="utf-8") as f:
            code, words = f.read().split(" ", 1)
        sys.stderr.write(words)
        return int(code)
    except FileNotFoundError:
        pass
    job = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "stand_in_job"])
    path = os.path.join(_FOLDER, ticket["agent"] + ".json")
    seen = {"ticket": ticket, "variables": _variables(), "pid": os.getpid(), "arguments": sys.argv}
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump(seen, f)
    os.rename(path + ".new", path)
    while sys.stdin.readline():
        pass
    job.kill()
    job.wait()
    os.unlink(path)
    return 0


def _variables() -> dict[str, str]:
    """What it was started with."""
    with open("/proc/self/environ", encoding="utf-8") as f:
        return dict(entry.split("=", 1) for entry in f.read().split("\0") if "=" in entry)


if __name__ == "__main__":
    sys.exit(main())
