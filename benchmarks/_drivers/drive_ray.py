"""Ray's job submission to a head that is up already, by its Python client or by its command."""

import os
import subprocess
import sys
import time
from pathlib import Path

from drive_bare import watched
from ray.job_submission import JobStatus, JobSubmissionClient
from serving import serve

RAY = str(Path(sys.executable).with_name("ray"))
heads: list["subprocess.Popen[bytes]"] = []
clients: list[JobSubmissionClient] = []


def start(port: int, gcs_port: int, folder: str) -> None:
    """Start the head with its dashboard, which takes the jobs; it ends with this worker."""
    command = [RAY, "start", "--head", "--block", "--disable-usage-stats", f"--port={gcs_port}",
               "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--node-ip-address=127.0.0.1",
               f"--temp-dir={folder}", "--object-store-memory=100000000"]  # fmt: skip
    heads.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True))
    for _ in range(300):
        try:
            client = JobSubmissionClient(f"http://127.0.0.1:{port}")
            client.submit_job(entrypoint="true")
        except (ConnectionError, RuntimeError):
            if heads[0].poll() is not None:
                raise
            time.sleep(0.2)
        else:
            clients.append(client)
            return
    raise RuntimeError("the head has not taken a job for a minute")


def stop() -> None:
    """End what was started here, and no other Ray of this machine."""
    for head in heads:
        head.terminate()
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, 9)
            head.wait()


def submit(script: str, how: str, copied: bool) -> dict[str, float]:
    if how == "command":
        command = [RAY, "job", "submit", "--address", clients[0].get_address(), "--working-dir",
                   os.path.dirname(script), "--", sys.executable, os.path.basename(script)]  # fmt: skip
        return watched(command)
    began = time.perf_counter()
    job = _job(script, copied)
    line = None
    while not _has_ended(job):
        if line is None and "first line" in clients[0].get_job_logs(job):  # its tail_job_logs looks once a second
            line = time.perf_counter() - began
        time.sleep(0.01)
    end = time.perf_counter() - began
    return {"line": end if line is None else line, "end": end}


def jobs(count: int, script: str) -> dict[str, float]:
    began = time.perf_counter()
    for job in [_job(script, copied=False) for _ in range(count)]:
        while not _has_ended(job):
            time.sleep(0.01)
    return {"seconds": time.perf_counter() - began}


def _job(script: str, copied: bool) -> str:
    if copied:
        command, environment = os.path.basename(script), {"working_dir": os.path.dirname(script)}
    else:
        command, environment = script, {}
    return str(clients[0].submit_job(entrypoint=f"{sys.executable} {command}", runtime_env=environment))


def _has_ended(job: str) -> bool:
    status = clients[0].get_job_status(job)
    if status.is_terminal() and status != JobStatus.SUCCEEDED:
        raise RuntimeError(f"{job}: {status}: {clients[0].get_job_info(job).message}")
    return bool(status.is_terminal())


if __name__ == "__main__":
    try:
        serve(start=start, submit=submit, jobs=jobs)
    finally:
        stop()
