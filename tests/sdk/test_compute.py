"""Compute targets: get or create, status in v1's shape, and values that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sdk.fake_server import FakeServer
from windlass import AmlCompute, ComputeTarget, Workspace
from windlass.compute import AmlComputeStatus
from windlass.errors import ComputeTargetException, NotOffered
from windlass.specs import vm_sizes

_KEYS = [
    "currentNodeCount", "targetNodeCount", "nodeStateCounts", "allocationState", "allocationStateTransitionTime",
    "errors", "creationTime", "modifiedTime", "provisioningState", "provisioningStateTransitionTime", "scaleSettings",
    "vmPriority", "vmSize",
]  # fmt: skip


def test_get_or_create_as_the_documents_do(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ComputeTargetException):
        ComputeTarget(workspace=ws, name="gpucluster")
    config = AmlCompute.provisioning_configuration(vm_size="standard_nc6", max_nodes=4)
    made = ComputeTarget.create(ws, "gpucluster", config)
    made.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert capsys.readouterr().out.startswith("Creating\nSucceeded\nAmlCompute wait for completion finished\n")
    found = ComputeTarget(workspace=ws, name="gpucluster")
    assert isinstance(found, AmlCompute) and isinstance(AmlCompute(ws, "gpucluster"), AmlCompute)
    assert (found.name, found.vm_size, found.type) == ("gpucluster", "STANDARD_NC6", "AmlCompute")
    assert sorted(ws.compute_targets) == ["gpucluster", "local"]
    status = found.get_status().serialize()
    assert list(status) == _KEYS and json.dumps(status)
    assert status["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT1800S"}
    assert status["nodeStateCounts"]["idleNodeCount"] == 4 and status["vmPriority"] == "Dedicated"
    assert AmlComputeStatus.deserialize(status).serialize() == status
    assert found.serialize()["properties"]["properties"]["vmSize"] == "STANDARD_NC6"


def test_update_nodes_and_delete(ws: Workspace, fake: FakeServer) -> None:
    target = ComputeTarget.create(ws, "c", AmlCompute.provisioning_configuration(max_nodes=2))
    target.update(max_nodes=3, idle_seconds_before_scaledown=60)
    assert fake.computes["c"]["spec"]["max_nodes"] == 3 and target.scale_settings.maximum_node_count == 3
    with pytest.raises(ComputeTargetException, match="min_nodes=4 is more than max_nodes=3"):
        target.update(min_nodes=4)
    fake.add_run({"experiment": "e", "script": "t", "snapshot_id": "s", "target": "c"}, status="Running", nodes=["c-1"])
    fake.add_run({"experiment": "e", "script": "t", "snapshot_id": "s", "target": "x"}, status="Running", nodes=["x-0"])
    nodes = target.list_nodes()
    assert [(n["nodeId"], n["nodeState"]) for n in nodes] == [("c-1", "running"), ("c-0", "idle"), ("c-2", "idle")]
    assert [run.id for run in target.get_active_runs()] == [nodes[0]["runId"]]
    target.delete()
    assert "c" not in fake.computes


@pytest.mark.parametrize(
    ("values", "says"),
    [({"vm_size": "STANDARD_NC7"}, "vm_size='STANDARD_NC7'.*STANDARD_NC6"), ({"max_nodes": 0}, "max_nodes=0"),
     ({"min_nodes": -1}, "min_nodes=-1"), ({"min_nodes": 2, "max_nodes": 1}, "min_nodes=2 is more than max_nodes=1"),
     ({"vm_priority": "cheap"}, "vm_priority='cheap'.*dedicated, lowpriority"), ({"max_nodes": "4"}, "max_nodes='4'")],
)  # fmt: skip
def test_wrong_configurations(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ComputeTargetException, match=says):
        AmlCompute.provisioning_configuration(**values)


def test_names_waits_and_azure_options(ws: Workspace) -> None:
    config = AmlCompute.provisioning_configuration(max_nodes=2)
    with pytest.raises(ComputeTargetException, match="name='bad name'"):
        ComputeTarget.create(ws, "bad name", config)
    with pytest.raises(ComputeTargetException, match="provisioning_configuration"):
        ComputeTarget.create(ws, "ok", None)  # type: ignore[arg-type]
    with pytest.raises(ComputeTargetException, match="min_node_count=3"):
        ComputeTarget.create(ws, "ok", config).wait_for_completion(min_node_count=3)
    with pytest.raises(NotOffered, match="vnet_name='v'"):
        AmlCompute.provisioning_configuration(vnet_name="v")
    with pytest.raises(NotOffered, match="hidden") as caught:
        AmlCompute.provisioning_configuration(admin_user_password="s3cret")
    assert "s3cret" not in str(caught.value)


def test_sizes() -> None:
    assert len(vm_sizes.SIZES) >= 80 and len({s.name for s in vm_sizes.SIZES}) == len(vm_sizes.SIZES)
    nc6 = vm_sizes.find("Standard_NC6")
    assert nc6 == ("STANDARD_NC6", 6, 56, 1, "K80") and vm_sizes.find("nc6") is None
    assert all((size.gpus > 0) == (size.gpu_name is not None) for size in vm_sizes.SIZES)


def test_a_wait_ends_with_its_time(ws: Workspace, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    target = ComputeTarget.create(ws, "c", AmlCompute.provisioning_configuration(max_nodes=2))
    fake.computes["c"]["capacity"].update(current=1, idle=1)
    clock = iter(float(seconds) for seconds in range(0, 1000, 20))
    monkeypatch.setattr("windlass.compute.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("windlass.compute.time.sleep", lambda seconds: None)
    with pytest.raises(ComputeTargetException, match="After 1 minutes 'c' has 1 of 2 nodes"):
        target.wait_for_completion(min_node_count=2, timeout_in_minutes=1)
    monkeypatch.setattr("windlass.compute.time.sleep", lambda seconds: fake.computes["c"]["capacity"].update(current=2))
    target.wait_for_completion(min_node_count=2, timeout_in_minutes=1)
    with pytest.raises(ComputeTargetException, match="is still there"):
        target.wait_for_completion(is_delete_operation=True, timeout_in_minutes=1)
