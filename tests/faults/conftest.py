"""Fault injection: real processes, real signals. Random faults are repeated by the seed that a failure prints."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of, processes_of
from faults.evidence import left_over
from faults.hour import FastClock
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


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that the tests of a module share; when its server has been stopped, nothing may be left in it."""
    folder = tmp_path_factory.mktemp("shared")
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDLASS_HOME", str(folder))
        made = Workspace()
        if is_running(made.dir):
            made.stop()
        made.client.close()
    for process in processes_of(folder):
        process.wait(60)
    try:
        assert left_over(folder) == []
    finally:
        end_processes_of(folder)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FastClock:
    """The clock of every process that the test starts."""
    made = FastClock(tmp_path)
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made
