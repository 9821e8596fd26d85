"""What a holder is told to make: mounts, variables, limits; and options that are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.fake_engine import IMAGE, FakeEngine
from windlass._transport.places import socket_path
from windlass.specs.container import ContainerLaunch, ContainerOptions
from windlass.specs.data import DataPlace, DataSpec
from windlass.specs.launch import LaunchSpec
from windlassd.agent import environ
from windlassd.agent.engines import Engines, StartRefused
from windlassd.agent.launch import container
from windlassd.blobs.run_folder import RunFolder

OWN = {"PATH": "/host/bin", "A_SECRET": "x", "https_proxy": "http://p", "HOME": "/home/of/the/agent"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(str(tmp_path / "workspaces" / "ws"), "run_1")
    made.make()
    return made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path / "engine.sock").serving() as made:
        yield made


def plan_of(folder: RunFolder, engine: FakeEngine, options: Any = None, **given: Any) -> dict[str, Any]:
    launch = LaunchSpec(
        "run_1", 1, "local-0", 0, "train.py", ("$IMAGE_SAYS",), "5" * 64, given.pop("python", "/opt/env/bin/python"),
        container=ContainerLaunch(IMAGE, engine.address, options or ContainerOptions()), **given,
    )  # fmt: skip
    engines, workspace = Engines(), os.path.dirname(os.path.dirname(folder.root))
    inherited = container.inherited(launch, engines, OWN)
    variables = environ.for_rank(launch, folder, workspace, "/sdk", 0, inherited)
    (rank,) = container.ranks(launch, folder, container.Place(workspace, "/sdk", OWN), engines, [variables])
    assert rank["argv"][-1].endswith("agent/container-0.json") and "A_SECRET" not in rank["env"]
    found: dict[str, Any] = json.loads(Path(rank["argv"][-1]).read_text())
    return found


def host(plan: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plan["create"]["HostConfig"]
    return found


def variables(plan: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in plan["create"]["Env"])


def mounts(plan: dict[str, Any]) -> dict[str, bool]:
    """Target → whether it can be written."""
    return {mount["Target"]: not mount["ReadOnly"] for mount in host(plan)["Mounts"]}


def test_only_the_working_folder_and_the_spool_can_be_written(folder: RunFolder, engine: FakeEngine) -> None:
    workspace = os.path.dirname(os.path.dirname(folder.root))
    found = mounts(plan_of(folder, engine))
    server = os.path.dirname(socket_path(workspace))
    assert found == {"/.windlass": False, folder.work: True, folder.spool: True, "/sdk": False, server: False}


def test_data_is_seen_and_only_outputs_are_written(folder: RunFolder, engine: FakeEngine, tmp_path: Path) -> None:
    root, file = str(tmp_path / "store"), str(tmp_path / "one.csv")
    data = (
        DataSpec("a", places=(DataPlace("x", "ds", root),)),
        DataSpec("b", kind="input", places=(DataPlace(file),)),
        DataSpec("c", kind="input", places=(DataPlace(f"{tmp_path}/many/*.csv"),)),
        DataSpec("d", kind="output", places=(DataPlace("made", "ds", root),)),
        DataSpec("e", mode="download", places=(DataPlace("/not/seen"),)),
    )
    found = mounts(plan_of(folder, engine, data=data))
    assert (found[root], found[f"{root}/made"]) == (False, True)
    assert (found[file], found[f"{tmp_path}/many"]) == (False, False)
    assert "/not/seen" not in found


def test_variables_are_the_images_ours_and_the_users(folder: RunFolder, engine: FakeEngine) -> None:
    plan = plan_of(folder, engine, environment_variables={"MINE": "1"}, node_variables={"OMP_NUM_THREADS": "2"})
    found = variables(plan)
    assert found["PATH"] == "/opt/env/bin:/image/bin:/usr/bin:/bin" and found["https_proxy"] == "http://p"
    assert (found["MINE"], found["OMP_NUM_THREADS"], found["IMAGE_SAYS"]) == ("1", "2", "a=b")
    assert "A_SECRET" not in found and found["HOME"] == ("/root" if os.getuid() == 0 else "/tmp")
    assert plan["create"]["Cmd"] == ["/opt/env/bin/python", "train.py", "a=b"]
    assert variables(plan_of(folder, engine, python="python"))["PATH"] == "/image/bin:/usr/bin:/bin"


def test_without_options(folder: RunFolder, engine: FakeEngine) -> None:
    found = host(plan_of(folder, engine))
    assert (found["ShmSize"], found["NetworkMode"], found["AutoRemove"]) == (2 << 30, "host", True)
    assert not {"Memory", "NanoCpus", "DeviceRequests", "IpcMode"} & set(found)


def test_options_are_the_engines(folder: RunFolder, engine: FakeEngine) -> None:
    options = ContainerOptions(
        shm_bytes=1 << 20, memory_bytes=1 << 30, cpus=0.5, ulimits=("memlock=-1", "nofile=10:20"), network="none",
        volumes=("/tmp:/data:ro", "/tmp:/out"),
    )  # fmt: skip
    plan = plan_of(folder, engine, options)
    found = host(plan)
    assert (found["ShmSize"], found["Memory"], found["MemorySwap"]) == (1 << 20, 1 << 30, 1 << 30)
    assert (found["NanoCpus"], found["NetworkMode"]) == (500_000_000, "none")
    assert found["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "nofile", "Soft": 10, "Hard": 20}]
    assert (mounts(plan)["/data"], mounts(plan)["/out"]) == (False, True)
    shared = host(plan_of(folder, engine, ContainerOptions(host_ipc=True)))
    assert shared["IpcMode"] == "host" and "ShmSize" not in shared


@pytest.mark.parametrize(
    ("options", "own", "node", "request_", "seen"),
    [
        (None, None, "1,3", {"DeviceIDs": ["1", "3"]}, "0,1"),
        (None, None, "", None, ""),
        (None, "2", "1,3", {"DeviceIDs": ["2"]}, "0"),
        ("all", None, "1", {"Count": -1}, "1"),
        ("0", None, "1", {"DeviceIDs": ["0"]}, "0"),
    ],
)
def test_gpus_are_handed_over_and_count_from_0(
    folder: RunFolder, engine: FakeEngine, options: Any, own: Any, node: str, request_: Any, seen: str
) -> None:
    users = {} if own is None else {"CUDA_VISIBLE_DEVICES": own}
    plan = plan_of(
        folder, engine, ContainerOptions(gpus=options),
        environment_variables=users, node_variables={"CUDA_VISIBLE_DEVICES": node},
    )  # fmt: skip
    wanted = {"Driver": "nvidia", "Capabilities": [["gpu"]], **request_} if request_ else None
    assert host(plan).get("DeviceRequests") == ([wanted] if wanted else None)
    assert variables(plan)["CUDA_VISIBLE_DEVICES"] == seen
    assert variables(plan).get("NVIDIA_VISIBLE_DEVICES") == (None if wanted else "void"), "images ask for all"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ContainerOptions(volumes=("cache:/x",)), "write /on/host:/in/container"),
        (ContainerOptions(volumes=("/tmp:/.windlass",)), "a place of Windlass's own"),
        (ContainerOptions(volumes=("/no/such:/x",)), "has no /no/such"),
        (ContainerOptions(volumes=("/tmp:/x:rx",)), "with :ro behind"),
        (ContainerOptions(ulimits=("nofile=many",)), "name=soft:hard"),
        (ContainerOptions(cpus=1e6), "more than the"),
        (ContainerOptions(memory_bytes=1), "cannot limit memory"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    folder: RunFolder, engine: FakeEngine, options: ContainerOptions, words: str
) -> None:
    engine.info["MemoryLimit"] = options.memory_bytes is None
    with pytest.raises(StartRefused, match=words):
        plan_of(folder, engine, options)


def test_podman_cannot_be_asked_for_gpus(folder: RunFolder, engine: FakeEngine) -> None:
    engine.components = ["Podman Engine"]
    with pytest.raises(StartRefused, match="Podman's API"):
        plan_of(folder, engine, ContainerOptions(gpus="all"))


def test_what_its_holder_left(folder: RunFolder) -> None:
    launch = LaunchSpec("run_1", 1, "n", 0, "t.py", (), "s", "p", container=ContainerLaunch(IMAGE, "unix:///e"))
    assert container.report_of(folder, 0) is None and not container.all_told(launch, folder)
    for text, told in (("   ", False), ('{"lost": true}  ', False), ('{"status": 0}', True), ('{"http": 0}', True)):
        Path(container.report_path(folder, 0)).write_text(text)
        assert container.all_told(launch, folder) is told
    assert not container.all_told(replace(launch, process_count=2), folder)
