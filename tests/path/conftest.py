"""The whole path with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of
from windlass._transport.autostart import is_running
from windlassd.testing.harness import Workspace


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    """An empty workspace; its server starts at the first call."""
    made = Workspace()
    yield made
    stop(made)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that the tests of a module share: its server starts once."""
    folder = tmp_path_factory.mktemp("shared")
    yield folder
    end_processes_of(folder)


def stop(workspace: Workspace) -> None:
    """Stop the workspace's server, if one runs."""
    if is_running(workspace.dir):
        workspace.stop()
    workspace.client.close()
