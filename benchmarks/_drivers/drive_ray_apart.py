"""Bare Ray on a cluster that is up: gangs of actors, actors one after another, and Ray's own jobs on its machines."""

import subprocess
import sys
import time
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from serving import serve

import ray

clients: list[JobSubmissionClient] = []


@ray.remote(num_cpus=1)
class Line:
    """Says a line, itself or by a process that it starts."""

    def say(self, command: list[str]) -> str:
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout if command else "a line"


def connect(address: str, dashboard: str = "") -> None:
    """Become a driver of the cluster, and a client of its dashboard."""
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    if not dashboard:
        return
    for _ in range(300):
        try:
            client = JobSubmissionClient(f"http://{dashboard}")
            client.list_jobs()
        except (ConnectionError, RuntimeError):
            time.sleep(0.2)
        else:
            clients.append(client)
            return
    raise RuntimeError(f"the dashboard at {dashboard} has not answered for a minute")


def gang(count: int, command: list[str]) -> dict[str, float]:
    """Seconds until each of so many actors on different machines has said its line."""
    began = time.perf_counter()
    group = placement_group([{"CPU": 1}] * count, strategy="STRICT_SPREAD")
    actors = [
        Line.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, number)).remote()
        for number in range(count)
    ]
    ray.get([actor.say.remote(command) for actor in actors])
    seconds = time.perf_counter() - began
    for actor in actors:
        ray.kill(actor)
    remove_placement_group(group)
    return {"line": seconds}


def actors(count: int, at_once: int, command: list[str]) -> dict[str, float]:
    """Seconds for so many actors that each say a line and end."""
    began = time.perf_counter()
    going: dict[Any, Any] = {}
    for _ in range(count):
        if len(going) == at_once:
            _end_one(going)
        actor = Line.options(scheduling_strategy="SPREAD").remote()
        going[actor.say.remote(command)] = actor
    while going:
        _end_one(going)
    return {"seconds": time.perf_counter() - began}


def submit(entrypoint: str) -> dict[str, float]:
    """Seconds until the first line of one of Ray's own jobs is read; it runs on a worker as the others do."""
    began = time.perf_counter()
    job = _job(entrypoint)
    while not clients[0].get_job_logs(job).strip():
        _has_ended(job)
        time.sleep(0.01)
    line = time.perf_counter() - began
    while not _has_ended(job):
        time.sleep(0.01)
    return {"line": line}


def jobs(count: int, at_once: int, entrypoint: str) -> dict[str, float]:
    """Seconds for so many of them."""
    began = time.perf_counter()
    going: list[str] = []
    for _ in range(count):
        while len(going) == at_once:
            going = [job for job in going if not _has_ended(job)]
            time.sleep(0.01)
        going.append(_job(entrypoint))
    while going := [job for job in going if not _has_ended(job)]:
        time.sleep(0.01)
    return {"seconds": time.perf_counter() - began}


def _end_one(going: dict[Any, Any]) -> None:
    [done], _ = ray.wait(list(going))
    ray.get(done)
    ray.kill(going.pop(done))


def _job(entrypoint: str) -> str:
    return str(clients[0].submit_job(entrypoint=f"{sys.executable} {entrypoint}", entrypoint_num_cpus=1))


def _has_ended(job: str) -> bool:
    status = clients[0].get_job_status(job)
    if status.is_terminal() and status != JobStatus.SUCCEEDED:
        raise RuntimeError(f"{job}: {status}: {clients[0].get_job_info(job).message}")
    return bool(status.is_terminal())


if __name__ == "__main__":
    serve(connect=connect, gang=gang, actors=actors, submit=submit, jobs=jobs)
