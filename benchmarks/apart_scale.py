"""How long a cluster that Ray's autoscaler makes larger and smaller takes for that, beside the same for a bare actor.

Machines are network namespaces that boot when Ray orders them, which takes a moment, and die when it gives them back.
In turns, from no machine each time: a run, and a placement group with a bare actor. Up is timed from the call until a
machine has been ordered and has booted, and until the first line; down from the end until the machine is gone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from _apart import LAB, ended, first_lines, network, ray_bed, until
from _measure import Row, note, rounds, tell
from _workspace import config, experiment, workspace

from windlass import Workspace
from windlassd.testing.ray_cloud import Cloud

_IDLE_S = 1
_UPDATE_S = 1
_VARIABLES = {"RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": str(_UPDATE_S)}
_STEPS = {
    "machine": "a run waits → a machine has been ordered and booted", "line": "a run waits → its first line",
    "down": "a run has ended → its machine was given back",
}  # fmt: skip
Times = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds(2))
    args = parser.parse_args()
    with ExitStack() as stack:
        switch = stack.enter_context(network())
        bed = stack.enter_context(ray_bed(switch, None, **_VARIABLES))
        cloud = stack.enter_context(Cloud(bed))
        ws = workspace()
        stack.enter_context(ended(ws))
        bed.attach(ws, nodes=2, min_nodes=0, idle_seconds_before_scaledown=_IDLE_S)
        bare = bed.worker("drive_ray_apart")
        stack.callback(bare.close)
        bare("connect", address=bed.address)
        calls: dict[str, Callable[[], object]] = {
            "bare": lambda: bare("gang", count=1, command=[]), "ours": _submission(ws),
        }  # fmt: skip
        times: dict[str, list[Times]] = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                times[name].append(_up_and_down(cloud, call))
    for step, what in _STEPS.items():
        ours, bare_s = (statistics.median(one[step] for one in times[name]) for name in ("ours", "bare"))
        tell(Row(what, f"{ours:.2f} s", f"a bare actor: {bare_s:.2f} s", f"{ours / bare_s:.2f}x"))
    note(
        f"Medians of {args.rounds} rounds in turns. Ray's autoscaler looks every {_UPDATE_S} s and gives back what was "
        f"idle for 3 s; `idle_seconds_before_scaledown` is {_IDLE_S}."
    )


def _submission(ws: Workspace) -> Callable[[], None]:
    job = config("print('first line', flush=True)\n", LAB)

    def submit() -> None:
        run = experiment(ws).submit(job)
        first_lines(ws, run.id, 1)

    return submit


def _up_and_down(cloud: Cloud, call: Callable[[], object]) -> Times:
    """What it takes from no machine to no machine. A call returns with the line, with which its work ends."""
    until(lambda: cloud.up == 0, "the machines were not given back")
    with ThreadPoolExecutor() as pool:
        began = time.perf_counter()
        line = pool.submit(call)
        until(lambda: cloud.up > 0 or line.done(), "no machine came")
        machine = time.perf_counter() - began
        line.result()
    seen = time.perf_counter()
    until(lambda: cloud.up == 0, "the machine was not given back")
    return {"machine": machine, "line": seen - began, "down": time.perf_counter() - seen}


if __name__ == "__main__":
    main()
