"""Specs over the wire, also between versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from windlass.specs._codec import known_fields, to_wire
from windlass.specs.cluster import ClusterSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import LaunchSpec, Outcome
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus

SPEC = RunSpec(
    experiment="exp", script="train.py", snapshot_id="5" * 64, arguments=("--rate", "", "ä"),
    environment=EnvironmentSpec(pip_packages=("torch==2.1",), python_version="3.9"), tags={"a": "b"},
    environment_variables={"X": "1"}, git={"commit": "c", "dirty": "true"}, max_run_duration_s=5,
)  # fmt: skip
WHOLE: list[Any] = [
    SPEC,
    RunRecord(
        "exp_1_a",
        "exp",
        1,
        RunStatus.QUEUED,
        SPEC,
        1.5,
        Reason("waits", "It waits."),
        nodes=("c-0",),
        history=({"time": 1.0, "status": "Queued"},),
    ),
    ClusterSpec("c", vm_size="STANDARD_NC6", tags={"k": "v"}),
    LaunchSpec("r", 1, "c-0", 0, "train.py", ("a",), "5" * 64, "/p", node_variables={"OMP_NUM_THREADS": "2"}),
    Outcome(rank=0, exit_code=3, files=({"path": "outputs/a", "size": 1},)),
    SPEC.environment,
]


@pytest.mark.parametrize("value", WHOLE, ids=lambda v: type(v).__name__)
def test_there_and_back(value: Any) -> None:
    wire = json.loads(json.dumps(to_wire(value)))
    assert type(value).from_wire(wire) == value


@pytest.mark.parametrize("value", WHOLE, ids=lambda v: type(v).__name__)
def test_a_newer_peers_fields_are_left_out(value: Any) -> None:
    wire = {**to_wire(value), "from_the_future": {"deep": [1]}, "": None}
    assert type(value).from_wire(wire) == value


def test_an_older_peers_missing_fields_have_their_defaults() -> None:
    assert ClusterSpec.from_wire({"name": "c"}) == ClusterSpec("c")
    spec = RunSpec.from_wire({"experiment": "e", "script": "s", "snapshot_id": "x", "environment": None})
    assert spec == RunSpec("e", "s", "x")


def test_what_must_be_there_is_missed() -> None:
    with pytest.raises(TypeError, match="name"):
        ClusterSpec.from_wire({})


def test_lists_become_tuples() -> None:
    assert known_fields(ClusterSpec, {"name": ["a", "b"], "x": 1}) == {"name": ("a", "b")}
    assert hash(EnvironmentSpec.from_wire({"pip_packages": ["a"]})) == hash(EnvironmentSpec(pip_packages=("a",)))


def test_unknown_enum_members_are_an_error_not_a_guess() -> None:
    with pytest.raises(ValueError, match="Sleeping"):
        RunRecord.from_wire({**to_wire(WHOLE[1]), "status": "Sleeping"})
