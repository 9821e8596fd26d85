"""Why a run waits, as a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from windlassd.control.scheduling import Holding, Waiting, Why

_NAMED = 3


def sentence(run: Waiting, why: Why, max_nodes: int, first: Waiting | None, wall: Callable[[float], float]) -> str:
    """Its place in line and what it waits for.

    Args:
        run: Who waits.
        why: What the pool says of it.
        max_nodes: Most nodes of its cluster.
        first: Who is first in line at these machines, when it is another.
        wall: Unix seconds of a moment of the pool's clock.
    """
    begin = (
        f"{ordinal(why.place)} in line on {run.cluster}, waits for {count(why.nodes)}, "
        f"{why.free if why.most is None else min(why.free, why.most)} free"
    )
    return "; ".join([begin, *_more(run, why, max_nodes, first, wall)])


def ordinal(number: int) -> str:
    """A number as a place: "3rd"."""
    if 10 <= number % 100 <= 20:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def count(nodes: int) -> str:
    """Nodes in words: "1 node"."""
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def moment(unix_s: float) -> str:
    """A moment as people read it, with its day when that is not today's."""
    at, now = time.gmtime(unix_s), time.gmtime()
    return time.strftime("%H:%M UTC" if at[:3] == now[:3] else "%Y-%m-%d %H:%M UTC", at)


def _more(
    run: Waiting, why: Why, max_nodes: int, first: Waiting | None, wall: Callable[[float], float]
) -> Sequence[str]:
    if why.most is not None:
        if run.nodes > max_nodes:
            way_out = f"update max_nodes (`windlass compute update {run.cluster} --max-nodes {run.nodes}`) or cancel it"
            return [f"{run.cluster} has at most {count(max_nodes)} now: {way_out}"]
        if not why.most:
            says = f"`windlass compute show {run.cluster}` says why"
            return [f"none of its nodes can be used at present ({says}): others pass it until one can, or cancel it"]
        there = f"there {'is' if why.most == 1 else 'are'} {count(why.most)} in all at present"
        return [f"{there}: others pass it until more come, or cancel it"]
    if first is not None:
        where = "" if first.cluster == run.cluster else f" (on {first.cluster}, which shares the machines)"
        if why.free:
            return [f"reserved for {first.run_id}, which is first in line{where}"]
        return [f"{first.run_id} is first in line{where}"]
    return _holders(why.holders, wall)


def _holders(holders: Sequence[Holding], wall: Callable[[float], float]) -> Sequence[str]:
    if not holders:
        return []
    named = [f"{h.run_id} has {count(h.nodes)}{_until(h, wall)}" for h in holders[:_NAMED]]
    more = len(holders) - len(named)
    return [", ".join([*named, *([_and_more(more)] if more else [])])]


def _and_more(runs: int) -> str:
    return "1 more run has others" if runs == 1 else f"{runs} more runs have others"


def _until(holding: Holding, wall: Callable[[float], float]) -> str:
    if holding.promised:
        return " coming"
    return (
        " without a time limit" if holding.ends_by is None else f" until {moment(wall(holding.ends_by))} at the latest"
    )
