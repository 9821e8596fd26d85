"""The queue's decisions: runs of random sizes, limits and priorities on machines that are only counted.

Runs come faster than they can be served; some are canceled, some lose a node. The simulation keeps account of every
machine by itself, checks that no decision gives one away twice or splits a gang, that runs begin in turn, that who is
first begins when it was promised at the latest, and that nothing is left at the end.
"""

from __future__ import annotations

import argparse
import time

from _measure import Row, ms, note, quick, tell

from windlassd.testing.queue_simulation import Plan, Simulation, waits_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5_000 if quick() else 100_000)
    parser.add_argument("--machines", type=int, default=500 if quick() else 10_000)
    parser.add_argument("--load", type=float, nargs="*", default=[1.5, 20.0])
    args = parser.parse_args()
    for load in args.load:
        began = time.perf_counter()
        told = Simulation(Plan(args.runs, args.machines, load=load)).run()
        took = time.perf_counter() - began
        middle, most, longest = waits_of(told)
        what = f"{args.runs:,} runs on {args.machines:,} nodes, {load:g} times what they can do"
        tell(Row(
            what, f"{told.decisions / told.deciding_s:,.0f} decisions/s, the longest {ms(told.longest_s)}",
        ))  # fmt: skip
        tell(Row("… waiting at most together", f"{told.longest_line:,} runs"))
        tell(Row("… began, of these out of turn", f"{told.started:,}, {told.out_of_turn:,}"))
        tell(Row("… canceled, lost a node", f"{told.canceled:,}, {told.lost:,}"))
        tell(Row("… simulated wait: middle, 99 %, longest", f"{middle:,.0f} s, {most:,.0f} s, {longest:,.0f} s"))
        tell(Row("… whole simulation", f"{took:.0f} s"))
    note("Nothing was left waiting, and no rule was broken: the simulation fails otherwise.")


if __name__ == "__main__":
    main()
