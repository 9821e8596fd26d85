"""What the machine does without any tool."""

import os
import shutil
import subprocess
import sys
import time

from serving import serve, timed

FRAME = b"x" * 37  # the size of a float point's frame in Windlass' spool


def log(points: int, each: bool = False) -> dict[str, float]:
    fd = os.open("points", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        began = time.perf_counter()
        for _ in range(points):
            os.write(fd, FRAME)
            if each:
                os.fsync(fd)
        called = time.perf_counter()
        os.fsync(fd)
        return {"calls": called - began, "settled": time.perf_counter() - began}
    finally:
        os.close(fd)


def submit(script: str) -> dict[str, float]:
    return watched([sys.executable, script])


def watched(command: list[str], **options: object) -> dict[str, float]:
    """Seconds from the command's start until its line ``first line`` was read, and until it had ended.

    Python holds back what it prints into a pipe, and nothing on a terminal: here as on a terminal.
    """
    options["env"] = {**os.environ, "PYTHONUNBUFFERED": "1"}
    began = time.perf_counter()
    line = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        for text in process.stdout:
            if b"first line" in text and line is None:
                line = time.perf_counter() - began
            sys.stderr.buffer.write(text)
    sys.stderr.flush()
    if process.returncode or line is None:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}, first line at {line}")
    return {"line": line, "end": time.perf_counter() - began}


def jobs(count: int, script: str, at_once: int) -> dict[str, float]:
    if at_once == 1:
        command = [sys.executable, script]
        return {"seconds": timed(lambda: [subprocess.run(command, stdout=2, check=True) for _ in range(count)])}
    given = "\n".join([script] * count).encode()
    command = ["xargs", "-P", str(at_once), "-n", "1", sys.executable]
    return {"seconds": timed(lambda: subprocess.run(command, input=given, stdout=2, check=True))}


def keep(path: str) -> dict[str, float]:
    seconds = timed(lambda: subprocess.run(["/bin/cp", "-r", path, "copy"], check=True))
    shutil.rmtree("copy")
    return {"seconds": seconds}


if __name__ == "__main__":
    serve(log=log, submit=submit, jobs=jobs, keep=keep)
