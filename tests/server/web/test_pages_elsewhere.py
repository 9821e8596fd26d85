"""What a run's page says of an environment that nodes elsewhere have made."""

from __future__ import annotations

from dataclasses import replace

from windlass.specs.run import RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.server.web.pages import _environment

CHOSEN = {
    "key": "a" * 32, "builder": "venv", "python_version": "3.9.18", "cached": True, "seconds": 0.0,
    "platform": "linux-aarch64-glibc2.17", "notes": ["Python 3.9.18 (/opt/python3.9)."],
}  # fmt: skip
PARTS = (
    {"rank": 0, "node": "c-0", "status": "running",
     "environment": {"python_version": "3.9.18", "cached": True, "seconds": 0.004}},
    {"rank": 1, "node": "c-1", "status": "running",
     "environment": {"python_version": "3.9.17", "cached": False, "seconds": 12.0}},
    {"rank": 2, "node": "c-2", "status": "preparing"},
)  # fmt: skip
RUN = RunRecord(
    "r", "exp", 1, RunStatus.RUNNING, RunSpec("exp", "train.py", "5" * 64), 1.0, environment=CHOSEN, parts=PARTS
)


def test_the_page_says_for_what_it_was_resolved_and_what_each_node_made_of_it() -> None:
    said = dict(_environment(RUN))
    assert said["Platform"] == "linux-aarch64-glibc2.17"
    assert said["Ready"] == "resolved by the server, made by each node"
    assert said["On c-0"].startswith("Python 3.9.18, found in") and said["On c-1"].startswith("Python 3.9.17, made in")
    assert "On c-2" not in said


def test_what_was_left_to_the_nodes_is_told_apart() -> None:
    said = dict(_environment(replace(RUN, environment={**CHOSEN, "key": ""})))
    assert said["Ready"] == "resolved and made by each node" and "Key" not in said
