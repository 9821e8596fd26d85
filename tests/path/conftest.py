"""The whole path with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass._transport.autostart import is_running
from windlassd.testing.harness import Workspace


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    """An empty workspace; its server starts at the first call."""
    made = Workspace()
    yield made
    if is_running(made.dir):
        made.stop()
    made.client.close()
