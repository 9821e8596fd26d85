"""The sentences of why a run waits."""

from __future__ import annotations

from windlassd.control.scheduling import Holding, Waiting, Why
from windlassd.control.waits import sentence


def said(why: Why, nodes: int = 1, max_nodes: int = 9) -> str:
    return sentence(Waiting("r", "lab", nodes, 0.0), why, max_nodes, None, lambda moment: moment)


def test_machines_that_cannot_be_used_are_not_called_too_few() -> None:
    text = said(Why(1, 1, 0, most=0))
    assert "none of its nodes can be used at present (`windlass compute show lab` says why)" in text
    assert "there are 2 nodes in all at present" in said(Why(1, 3, 0, most=2), nodes=3)


def test_who_has_the_nodes_beyond_the_first_is_counted() -> None:
    holders = [Holding(f"r{number}", "lab", 1) for number in range(5)]
    assert said(Why(1, 1, 0, holders=holders[:4])).endswith(", 1 more run has others")
    assert said(Why(1, 1, 0, holders=holders)).endswith(", 2 more runs have others")
