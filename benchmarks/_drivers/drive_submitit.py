"""submitit's executor for this machine; each job is a script of its own process, as its CommandFunction runs it."""

import os
import sys
import time

import submitit
from serving import serve
from submitit.helpers import CommandFunction

executor = submitit.LocalExecutor(folder="jobs")


def submit(script: str) -> dict[str, float]:
    began = time.perf_counter()
    job = executor.submit(CommandFunction([sys.executable, script]))
    line = None
    while not job.done():
        if line is None and _has_line(job):
            line = time.perf_counter() - began
        time.sleep(0.001)
    end = time.perf_counter() - began
    job.result()
    return {"line": end if line is None else line, "end": end}


def _has_line(job: "submitit.Job[str]") -> bool:
    return os.path.exists(job.paths.stdout) and b"first line" in job.paths.stdout.read_bytes()


def jobs(count: int, script: str) -> dict[str, float]:
    began = time.perf_counter()
    submitted = [executor.submit(CommandFunction([sys.executable, script])) for _ in range(count)]
    for job in submitted:
        while not job.done():
            time.sleep(0.001)
    seconds = time.perf_counter() - began
    for job in submitted:
        job.result()
    return {"seconds": seconds}


if __name__ == "__main__":
    serve(submit=submit, jobs=jobs)
