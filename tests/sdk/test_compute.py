"""Compute targets: get or create, status in v1's shape, and values that cannot be."""

from __future__ import annotations

import json
from types import SimpleNamespace
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
    assert nodes[0] == {
        "nodeId": "c-1", "port": None, "publicIpAddress": None, "privateIpAddress": "10.0.0.7", "nodeState": "running",
        "runId": nodes[0]["runId"],
    }  # fmt: skip
    assert nodes[1]["privateIpAddress"] == "127.0.0.1" and nodes[1]["runId"] is None
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
    fake.computes["c"]["capacity"].update(current=2, idle=1, preparing=1)
    clock = iter(float(seconds) for seconds in range(0, 1000, 20))
    own = SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr("windlass.compute.time", own)  # the module's own name: other threads need the real clock
    with pytest.raises(ComputeTargetException, match="After 1 minutes 'c' has 1 of 2 nodes"):
        target.wait_for_completion(min_node_count=2, timeout_in_minutes=1)
    own.sleep = lambda seconds: fake.computes["c"]["capacity"].update(idle=2)
    target.wait_for_completion(min_node_count=2, timeout_in_minutes=1)
    with pytest.raises(ComputeTargetException, match="is still there"):
        target.wait_for_completion(is_delete_operation=True, timeout_in_minutes=1)


def test_a_cluster_that_grows_is_resizing_and_says_what_is_wrong(ws: Workspace, fake: FakeServer) -> None:
    target = ComputeTarget.create(ws, "c", AmlCompute.provisioning_configuration(max_nodes=8))
    fake.computes["c"]["capacity"] = {
        "target": 7, "current": 6, "idle": 1, "busy": 2, "preparing": 1, "leaving": 1, "unusable": 1
    }  # fmt: skip
    fake.computes["c"]["trouble"] = "no route to 10.0.0.9"
    status = target.get_status().serialize()
    assert status["allocationState"] == "Resizing" and (status["currentNodeCount"], status["targetNodeCount"]) == (6, 7)
    assert status["nodeStateCounts"] == {
        "preparingNodeCount": 1, "runningNodeCount": 2, "idleNodeCount": 1, "unusableNodeCount": 1,
        "leavingNodeCount": 1, "preemptedNodeCount": 0,
    }  # fmt: skip
    assert status["errors"] == [{"code": "unreachable", "message": "no route to 10.0.0.9"}]
    again = AmlCompute.deserialize(ws, target.serialize()).status.serialize()
    assert again["nodeStateCounts"] == status["nodeStateCounts"]
