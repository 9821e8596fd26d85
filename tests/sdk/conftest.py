"""A workspace whose server is a light double in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.fake_server import FakeServer
from windlass import Experiment, Run, Workspace
from windlass._transport import places


@pytest.fixture
def fake(home: Path) -> Iterator[FakeServer]:
    folder = Path(places.workspace_dir("ws"))
    folder.mkdir(parents=True)
    server = FakeServer(folder)
    yield server
    server.close()


@pytest.fixture
def ws(fake: FakeServer) -> Workspace:
    return Workspace.get("ws")


@pytest.fixture
def experiment(ws: Workspace) -> Experiment:
    return Experiment(ws, "digits")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    return folder


@pytest.fixture
def run(fake: FakeServer, experiment: Experiment) -> Run:
    data = fake.add_run({"experiment": "digits", "script": "train.py", "snapshot_id": "s", "arguments": ["--c", "1"]})
    return Run.get(experiment.workspace, data["id"])
