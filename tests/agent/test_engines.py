"""What is known of this node's engines, and what a user is told when one refuses."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.fake_engine import IMAGE, FakeEngine
from windlassd.agent import engines
from windlassd.agent.engines import Engines, StartRefused, refusal


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(tmp_path / "engine.sock").serving() as made:
        yield made


def test_an_engine_is_asked_once(engine: FakeEngine) -> None:
    known = Engines()
    for _ in range(3):
        assert known.get(engine.address).image_variables(IMAGE)["IMAGE_SAYS"] == "a=b"
    asked = [call for call in engine.calls if call != "GET /_ping"]
    assert asked == ["GET /info", "GET /version", f"GET /images/{IMAGE}/json"]


@pytest.mark.parametrize(
    ("security", "components", "user", "namespace"),
    [
        (["name=seccomp"], ["Engine"], (os.getuid(), os.getgid()), "host"),
        (["name=seccomp", "name=rootless"], ["Engine"], (0, 0), ""),
        (["name=rootless"], ["Podman Engine"], (os.getuid(), os.getgid()), "keep-id"),
        ([], ["Podman Engine"], (os.getuid(), os.getgid()), ""),
    ],
    ids=["docker", "rootless docker", "rootless podman", "podman"],
)
def test_files_belong_to_this_user(
    engine: FakeEngine, security: list[str], components: list[str], user: tuple[int, int], namespace: str
) -> None:
    engine.info["SecurityOptions"], engine.components = security, components
    found = Engines().get(engine.address)
    assert (found.user_inside(), found.user_namespace()) == (user, namespace)


def test_an_image_that_is_gone(engine: FakeEngine) -> None:
    engine.refusals["/images/"] = (404, "No such image: x")
    with pytest.raises(StartRefused, match="not in the container engine") as caught:
        Engines().get(engine.address).image_variables(IMAGE)
    assert caught.value.error_code == "image_gone" and "made anew" in caught.value.message


@pytest.mark.parametrize("address", ["unix:///no/such.sock", "tcp://127.0.0.1:2375", "ssh://host"])
def test_an_engine_that_cannot_be_used(address: str) -> None:
    with pytest.raises(StartRefused, match=r"does not answer|has to be one of this machine"):
        Engines().get(address)


def test_who_asks_an_engine_that_hangs_makes_nobody_else_wait(tmp_path: Path) -> None:
    refused: list[StartRefused] = []

    def ask(known: Engines, address: str) -> None:
        with pytest.raises(StartRefused, match="does not answer") as caught:
            known.get(address)
        refused.append(caught.value)

    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "hung.sock"))
        hung.listen()
        hung.settimeout(10)
        known = Engines()
        runs = [threading.Thread(target=ask, args=(known, f"unix://{tmp_path}/hung.sock")) for _ in range(3)]
        for run in runs:
            run.start()
        lines = [hung.accept()[0] for _ in runs]  # all at once, though none was answered
        for line in lines:
            line.close()
        for run in runs:
            run.join(10)
    assert len(refused) == 3


def test_podmans_own_service_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    awake, known = ExitStack(), Engines()
    with awake, FakeEngine(tmp_path / "own.sock").serving() as first:
        address = first.address
        known.get(address)

    def wake(asked: str) -> bool:
        (tmp_path / "own.sock").unlink()
        awake.enter_context(FakeEngine(tmp_path / "own.sock").serving())
        return asked == address

    monkeypatch.setattr(engines.container_engine, "wake", wake)
    with awake:
        assert known.get(address).rootless is False, "it had ended since it was met"


@pytest.mark.parametrize(
    ("status", "said", "code", "words"),
    [
        (0, "Connection refused", "engine_down", "systemctl start docker"),
        (404, "No such image: x", "image_gone", "Submit again"),
        (
            500,
            'could not select device driver "nvidia"',
            "start_failed",
            "NVIDIA's container toolkit",
        ),
        (400, 'exec: "python": executable file not found in $PATH', "start_failed", "needs Python 3.7"),
        (500, "something else", "start_failed", "refused to run the job: something else"),
    ],
)
def test_a_refusal_has_a_way_out(status: int, said: str, code: str, words: str) -> None:
    problem = refusal("unix:///e.sock", IMAGE, status, said)
    assert problem.error_code == code and words in problem.message


def test_leftovers_of_this_workspace_are_removed(engine: FakeEngine) -> None:
    for name, run_id in (("held", "run_1"), ("left", "run_2")):
        engine.created[name] = {"Labels": {"windlass.run": run_id, "windlass.workspace": "/ws"}}
    engines.sweep(engine.address, "windlass.workspace", "windlass.run", "/ws", ["run_1"])
    assert list(engine.created) == ["held"] and "windlass.workspace%3D/ws" in engine.calls[0]


def test_leftovers_are_looked_for_when_an_engine_is_met_and_after_a_removal(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_LATE_S", 0.01)
    greeted: queue.Queue[str] = queue.Queue()
    known = Engines(greeted.put)
    known.get(engine.address)
    assert greeted.get(timeout=10) == engine.address
    known.get(engine.address)
    known.remove_containers(engine.address, ["windlass-run_1.1.0"])
    assert greeted.get(timeout=10) == engine.address and greeted.empty()
