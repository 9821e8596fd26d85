"""A Ray cluster as a compute target, from the SDK to the engine, with a driver that only pretends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass import AmlCompute, ComputeTarget, Workspace
from windlass.compute import AmlComputeProvisioningConfiguration
from windlass.errors import ComputeTargetException
from windlass.ray_compute import RayCompute, RayComputeAttachConfiguration

_FAKE = Path(__file__).parents[1] / "compute" / "fake_ray_driver.py"
_TOKEN = "a-token-that-nobody-sees"


@pytest.fixture
def ws(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("WINDLASS_DEFAULT_ENGINE", "lab")
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
    made = Workspace.create("ray")
    yield made
    made._client.post("/v1/server/stop", {"force": True})


@pytest.fixture
def config(tmp_path: Path) -> RayComputeAttachConfiguration:
    python, script = tmp_path / "python", tmp_path / "driver.py"
    script.symlink_to(_FAKE)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "{script}"\n')
    python.chmod(0o755)
    token = tmp_path / "token"
    token.write_text(_TOKEN + "\n")
    return RayCompute.attach_configuration(
        "10.0.0.1:6379", {"CPU": 2, "GPU": 1}, max_nodes=3, python=str(python), token_file=str(token)
    )


def test_attach_clusters_on_it_and_delete(ws: Workspace, config: RayComputeAttachConfiguration) -> None:
    on_it = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=2)
    assert isinstance(on_it, AmlComputeProvisioningConfiguration)
    with pytest.raises(ComputeTargetException, match=r"default_engine is 'lab', which is neither .* nor the name"):
        ComputeTarget.create(ws, "cpu", on_it)
    target = ComputeTarget.attach(ws, "lab", config)
    assert isinstance(target, RayCompute) and isinstance(ComputeTarget(ws, "lab"), RayCompute)
    assert (target.address, target.node_resources, target.is_attached) == (
        "10.0.0.1:6379", {"CPU": 2.0, "GPU": 1.0}, True,
    )  # fmt: skip
    assert [node["nodeState"] for node in target.list_nodes()] == ["idle"] * 3
    assert target.get_status().current_node_count == 3
    cluster = ComputeTarget.create(ws, "cpu", on_it)
    assert type(cluster) is AmlCompute and len(cluster.list_nodes()) == 2
    spec = cluster._spec
    assert spec.engine == "ray" and spec.options["machines_of"] == "lab" and spec.node_resources == {"CPU": 2.0}
    with pytest.raises(ComputeTargetException, match="cpu is on its machines"):
        target.delete()
    secret = Path(ws._dir, "server", "secrets", "lab")
    assert secret.read_text() == _TOKEN and secret.stat().st_mode & 0o777 == 0o600
    for folder, _, files in os.walk(os.path.join(ws._dir, "server")):
        for name in files:
            path = Path(folder, name)
            assert path == secret or not path.is_file() or _TOKEN.encode() not in path.read_bytes(), path
    assert _TOKEN not in str(ws._client.get("/v1/computes")) + repr(config)
    cluster.delete()
    target.detach()
    assert not secret.exists() and "lab" not in ws.compute_targets


def test_what_is_refused_leaves_nothing(ws: Workspace, config: RayComputeAttachConfiguration, tmp_path: Path) -> None:
    (tmp_path / "refuse").write_text("The cluster does not let this server in.")
    with pytest.raises(ComputeTargetException, match="does not let this server in"):
        ComputeTarget.attach(ws, "lab", config)
    assert not Path(ws._dir, "server", "secrets", "lab").exists() and "lab" not in ws.compute_targets
    with pytest.raises(ComputeTargetException, match="what Azure has cannot be attached"):
        ComputeTarget.attach(ws, "lab", object())  # type: ignore[arg-type]
    with pytest.raises(ComputeTargetException, match="Give auth_token or token_file, not both"):
        RayCompute.attach_configuration("h:1", auth_token="x", token_file="y")
