"""Every test gets a home of its own, a clean environment, and leaves no process behind."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from windlassd.testing.harness import Workspace

_DROPPED = ("WINDLASS_", "AZUREML_", "AZ_BATCH", "OMPI_", "MLFLOW_")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=0, help="rounds of each random fault test (default: the test's own)")
    parser.addoption("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="seed of random faults")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty WINDLASS_HOME; whatever was started under it is ended afterwards."""
    for name in list(os.environ):
        if name.startswith(_DROPPED):
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("WINDLASS_HOME", str(folder))
    yield folder
    end_processes_of(folder)


@pytest.fixture
def shared(shared_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace whose server is up already and holds other tests' runs; for tests that change no setting.

    ``shared_home`` is for each folder of tests to make.
    """
    monkeypatch.setenv("WINDLASS_HOME", str(shared_home))
    made = Workspace()
    yield made
    made.client.close()


def end_processes_of(home: Path) -> None:
    """Kill every process that was started for ``home``, and wait until none is left."""
    deadline = time.monotonic() + 20
    while processes := processes_of(home):
        for process in processes:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass
        for process in processes:
            _wait_until_dead(process.pid)
        if time.monotonic() > deadline:
            pytest.fail(f"processes of {home} do not end: {processes}")


def _wait_until_dead(pid: int) -> None:
    """Return when the process has ended, also when nobody reaps it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([fd], [], [], 1.0)
    os.close(fd)


def processes_of(home: Path) -> list[psutil.Process]:
    """Live processes whose WINDLASS_HOME is ``home`` (this one is not among them)."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get("WINDLASS_HOME") == str(home):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found
