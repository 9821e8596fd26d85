"""Images on nodes that are apart: the node's engine has them, the server needs none."""

from __future__ import annotations

from pathlib import Path

import pytest

from containers.jobs import ENVIRONMENT, IMAGE, Jobs, jobs
from windlass.specs.status import RunStatus
from windlassd.testing.package_index import PackageIndex

__all__ = ["jobs"]
pytestmark = pytest.mark.containers
SAYS = "import os, sys; print(os.environ['IMAGE_SAYS'], sys.prefix, os.path.exists('/from-context'))"


@pytest.fixture
def far(index: PackageIndex, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """The cluster ``far``, whose node has the engine; the server's is none that answers."""
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", f"unix://{tmp_path}/none.sock")
    options = {"homes": str(tmp_path / "homes"), "variables": {"WINDLASS_CONTAINER_ENGINE": jobs.engine}}
    jobs.client.put("/v1/computes/far", {"engine": "apart", "max_nodes": 1, "options": options})
    return jobs


def test_an_image_as_it_is_runs_where_the_node_has_it(far: Jobs) -> None:
    run_id = far.submit(SAYS, target="far")
    run = far.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert far.log(run_id).startswith("hello ")
    assert "container engine of the node" in run.environment["notes"][0]
    assert run.parts[0]["environment"]["image"] == far.image
    far.assert_nothing_left(run_id)


def test_an_image_is_made_of_a_dockerfile_and_packages_on_the_node(far: Jobs, index: PackageIndex) -> None:
    index.add("alpha")
    far.snapshot({"words.txt": b"kept"})
    context = far.snapshot({"words.txt": b"kept"})  # announced again, with nothing missing: now it is written down
    container = {"dockerfile": f"FROM {IMAGE}\nCOPY words.txt /from-context\n", "context": context}
    asked = {"pip_packages": ["alpha"], "container": container}
    run_id = far.submit("import alpha\n" + SAYS, target="far", environment=asked)
    run = far.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert far.log(run_id) == "hello /opt/windlass/env True\n"
    far.assert_nothing_left(run_id)


def test_an_image_that_the_node_cannot_have_names_the_node(far: Jobs) -> None:
    run = far.wait(far.submit(SAYS, target="far", environment={**ENVIRONMENT, "container": {"image": "nosuch:1"}}))
    assert run.status is RunStatus.FAILED and run.reason is not None and run.reason.code == "environment_failed"
    assert "far-0" in run.reason.message and "nosuch" in run.reason.message
