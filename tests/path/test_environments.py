"""Many runs that need one environment: it is built once, also across the servers of a home, and none is held up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.conftest import Wheelhouse, wheels
from path.conftest import stop
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace, kill

__all__ = ["wheels"]
MANY, STAY = 50, 3


@pytest.fixture
def pair(home: Path, wheels: Wheelhouse) -> Iterator[tuple[Workspace, Workspace]]:
    """Two workspaces of one home, each with its server."""
    made = Workspace("one"), Workspace("two")
    yield made
    for workspace in made:
        stop(workspace)


def needs(workspace: Workspace, *packages: str, script: str = "import slow; print('ran')") -> str:
    return workspace.submit(script, environment={"pip_packages": list(packages)})


def build_log(workspace: Workspace, run_id: str) -> list[str]:
    return workspace.read(run_id, "azureml-logs/20_image_build_log.txt").decode().splitlines()


def test_fifty_runs_of_two_workspaces_build_it_once_and_hold_up_nothing(
    pair: tuple[Workspace, Workspace], wheels: Wheelhouse, tmp_path: Path
) -> None:
    one, two = pair
    hold = wheels.add_held("slow", tmp_path / "hold")
    runs = [needs(one, "slow") for _ in range(MANY - STAY)]
    started: list[int] = []
    waiting = threading.Thread(target=lambda: started.append(hold.wait_started()))
    waiting.start()
    waiting.join(60)
    assert started
    others = [needs(two, "slow") for _ in range(STAY)]
    for workspace, run_ids in ((one, runs), (two, others)):
        for run_id in run_ids:
            workspace.wait_for(run_id, lambda run: run.status is RunStatus.PREPARING)
    assert one.wait(one.submit("print('here')")).status is RunStatus.COMPLETED, "what is ready waits for no build"
    for run_id in runs[: MANY - 2 * STAY]:
        one.client.post(f"/v1/runs/{run_id}/cancel", {})
    stay = [(one, run_id) for run_id in runs[MANY - 2 * STAY :]] + [(two, run_id) for run_id in others]
    hold.let_pass()
    hold.release()
    ends = [workspace.wait(run_id) for workspace, run_id in stay]
    assert {end.status for end in ends} == {RunStatus.COMPLETED}, [end.reason for end in ends]
    assert len({end.environment["key"] for end in ends}) == 1
    logs = [build_log(workspace, run_id) for workspace, run_id in stay]
    built = {line for log in logs for line in log if line.startswith("Environment ")}
    assert len(built) == 1, "one build, whose end all saw"
    assert all(log[0].startswith("Waiting for the same environment") for log in logs)
    assert all(built <= set(log) for log in logs)


def test_the_server_of_another_workspace_removes_nothing_that_a_run_uses(
    pair: tuple[Workspace, Workspace], wheels: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_ENVIRONMENTS_MAX_GB", "0")
    one, two = pair
    for name in ("slow", "other"):
        wheels.add(name)
    run_id = needs(one, "slow", script="import time; print('on', flush=True); time.sleep(600); import slow")
    one.wait_for_text(run_id, "on")
    kill(one.server_pid())
    theirs = needs(two, "other", script="import other")
    assert two.wait(theirs).status is RunStatus.COMPLETED
    answer = two.client.post("/v1/environments/prune", {"all": True})
    used = one.get(run_id).environment
    assert used["key"] in answer["in_use"]
    (kept,) = two.client.get("/v1/environments")["environments"]
    assert (kept["key"], kept["in_use"]) == (used["key"], [{"workspace": "one", "run_id": run_id}])
    assert Path(used["python"]).exists()
    one.client.post(f"/v1/runs/{run_id}/cancel", {})
    one.wait(run_id)
    assert two.client.post("/v1/environments/prune", {"all": True})["in_use"] == []
    deadline = time.monotonic() + 60
    while two.client.get("/v1/environments")["environments"]:  # the other server may be removing it at this moment
        assert time.monotonic() < deadline, "nobody removes it"
