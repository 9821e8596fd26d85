"""Workloads that are cut below themselves, at each operation, by death or by a power loss."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.power import Disk
from faults.shim import AFTER, BEFORE, MARK, TORN, Shim


class Cutter:
    """Runs a workload of ``faults.workloads`` again and again, each time in a new folder.

    Args:
        folder: Where everything is put.
        workload: Its name.
        template: What the folder holds before; None: nothing.
    """

    def __init__(self, folder: Path, workload: str, template: Path | None = None) -> None:
        self._folder = folder
        self._workload = workload
        self._template = template
        self._tries = 0
        self.at = folder / "disk"
        self._shim = Shim(folder, self.at)
        self._process = self._start(self._shim)

    def close(self) -> None:
        """End the process that forks."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def operations(self) -> int:
        """How many operations the whole workload makes; it succeeds when nothing is cut."""
        assert self._run(self._process)[0] == 0
        return self._shim.count

    def killed_at(self, number: int, when: int, torn_bytes: int = 0) -> Sequence[str]:
        """Let it be killed at that operation; what it had acknowledged. What it left lies in ``at``."""
        self._shim.reset()
        self._shim.kill_at(number, when, torn_bytes=torn_bytes)
        status, told = self._run(self._process)
        assert status in (-signal.SIGKILL, 0), status
        return told

    def powerless(self) -> Recorded:
        """A whole run as it was recorded."""
        self._fill()
        before = self._folder / "before"
        shutil.copytree(self.at, before)
        shim = Shim(self._folder, self.at, record=True)
        process = self._start(shim)
        assert self._run(process)[0] == 0
        assert process.stdin and process.stdout
        process.stdin.close()
        process.stdout.close()
        process.wait()
        return Recorded(shim, before, self.at, self._folder / "after")

    def _start(self, shim: Shim) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, "-m", "faults.workloads"], env={**os.environ, "PYTHONPATH": path, **shim.variables},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _run(self, process: subprocess.Popen[str]) -> tuple[int, Sequence[str]]:
        self._tries += 1
        told = self._folder / f"told-{self._tries}"
        self._fill()
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([self._workload, str(self.at), str(told)]) + "\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return status, told.read_text().splitlines() if told.exists() else []

    def _fill(self) -> None:
        shutil.rmtree(self.at, ignore_errors=True)
        if self._template is None:
            self.at.mkdir()
        else:
            shutil.copytree(self._template, self.at)


@dataclass
class Recorded:
    """A run, and what a disk may hold when the power goes in the middle of it."""

    shim: Shim
    before: Path
    root: Path
    target: Path

    def cuts(self, chance: random.Random, share: float, tries: int) -> Iterator[tuple[str, Sequence[str], Path]]:
        """For a share of all moments: what was acknowledged by then, and folders as the power loss may leave them.

        One folder without anything unsynced, one with all of it, and ``tries`` with what chance kept. A folder is valid
        until the next one is asked for.
        """
        shutil.rmtree(self.root)
        shutil.copytree(self.before, self.root)
        disk = Disk(self.root)
        told: list[str] = []
        for number, operation in enumerate(self.shim.operations()):
            if operation.kind == MARK:
                told.append(operation.path)
            else:
                disk.apply(operation)
            if chance.random() >= share:
                continue
            ways: list[float | random.Random] = [random.Random(chance.random()) for _ in range(tries)]
            for kept in [0.0, 1.0, *ways]:
                shutil.rmtree(self.target, ignore_errors=True)
                disk.save(self.target, kept)
                yield f"power lost after operation {number}, {operation}", list(told), self.target


def moments(chance: random.Random, operations: int, share: float) -> Iterator[tuple[int, int, int]]:
    """(operation, before or after or torn, bytes of the torn write) for a share of all operations."""
    for number in range(1, operations + 1):
        for when in (BEFORE, TORN, AFTER):
            if chance.random() < share:
                yield number, when, chance.choice([0, 1, 24, 100, 512, 4095, 4096 + 24])


def digest(lines: Sequence[object]) -> str:
    """Equal for what is equal."""
    return hashlib.sha256("\n".join(map(repr, lines)).encode()).hexdigest()
