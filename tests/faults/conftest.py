"""Fault injection: real processes, real signals. Random faults are repeated by the seed that a failure prints."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlass._transport.autostart import is_running
from windlassd.testing.harness import Workspace


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that a failure can be repeated with."""
    seed = request.config.getoption("--seed")
    print(f"repeat with --seed {seed}")  # pytest shows it when the test fails
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int], range]:
    """``rounds(own)``: how often to repeat; ``--rounds`` overrides what the test itself chose."""
    return lambda own: range(request.config.getoption("--rounds") or own)


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    """An empty workspace; its server starts at the first call."""
    made = Workspace()
    yield made
    if is_running(made.dir):
        made.stop()
    made.client.close()
