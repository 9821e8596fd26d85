"""What the tests of the agent share."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlassd.blobs.run_folder import RunFolder


@pytest.fixture
def folder(home: Path) -> RunFolder:
    """A run's folder as the agent finds it, with the working folder made."""
    made = RunFolder(str(home / "workspaces" / "ws"), "run_1")
    made.make()
    for name in ("outputs", "logs"):
        Path(made.work, name).mkdir(parents=True)
    return made
