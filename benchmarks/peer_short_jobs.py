"""How many short scripts a second get through, one client submitting them all and waiting for the last to end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from _measure import note, quick, rounds
from _peers import Column, Contestant, Times, Worker, chart, race, ray, tell, windlass, worker
from _plot import BARE, OURS, bars, number, publish
from peer_first_line import script_of


def main() -> None:
    script, cores = script_of("print(1)\n"), os.cpu_count() or 1
    bare, local = partial(worker, driver="drive_bare"), partial(worker, driver="drive_submitit", name="submitit")
    results = race([
        Contestant("python, one after another", "nothing", _jobs(bare, 100, script, at_once=1), BARE),
        Contestant(f"xargs -P{cores}", "nothing", _jobs(bare, 100, script, at_once=cores), BARE),
        Contestant("Windlass", "queue, snapshot, log, status and reason, durable",
                   _jobs(windlass(), 100, script, nodes=4 * cores), OURS),
        Contestant("submitit, local", "no queue: all at once; log and result in a folder", _jobs(local, 16, script)),
        Contestant("Ray jobs", "no queue: all at once; log and status, gone with the head",
                   _jobs(ray, 10, script)),
    ], rounds(5))  # fmt: skip
    tell(results, "Windlass", [Column("rate", "jobs per second", number)], "what is kept, and how they are run")
    svg = bars("Short jobs per second", chart(results, "rate"), number, better="longer is better")
    publish("peer_short_jobs", svg, "Short jobs per second with each tool")
    note(
        "10 to 100 jobs a round, the slower the fewer. Each job is a Python process that prints a line. "
        "A task of Ray is a call in a process that is there already, and so not compared."
    )


def _jobs(
    begin: Callable[[ExitStack], Worker], count: int, script: str, **given: int
) -> Callable[[ExitStack], Callable[[], Times]]:
    jobs = min(count, 3) if quick() else count

    def measure(tool: Worker) -> Times:
        return {"rate": jobs / tool("jobs", count=jobs, script=script, **given)["seconds"]}

    return lambda stack: partial(measure, begin(stack))


if __name__ == "__main__":
    main()
