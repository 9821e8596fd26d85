"""The kernel's out-of-memory killer for real: the script of a run is put under a small limit by a control group."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.evidence import Witnessed
from windlassd.testing.harness import Workspace

pytestmark = pytest.mark.faults
LIMIT_BYTES = 96 << 20
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
FILLS = """
open(os.environ["GROUP"] + "/cgroup.procs", "w").write(str(os.getpid()))
hoard = []
while True:
    hoard.append(bytearray(os.urandom(1 << 20)))
    diary.log(run, 1)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with little memory; processes that write their pid to its ``cgroup.procs`` are in it."""
    v1 = (V1 / "memory.limit_in_bytes").exists()
    made = (V1 if v1 else V2) / f"windlass-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(LIMIT_BYTES))
    except OSError as problem:
        made.is_dir() and made.rmdir()
        pytest.skip(f"NOT TESTED: no control group for memory can be made here ({problem}); run as root outside of one")
    swap = made / ("memory.memsw.limit_in_bytes" if v1 else "memory.swap.max")
    if swap.exists():  # else it would be swapped out instead of killed
        swap.write_text(str(LIMIT_BYTES) if v1 else "0")
    yield made
    for _ in range(500):
        try:
            made.rmdir()
            return
        except OSError:  # the kernel still takes a killed process apart, which nothing tells of
            select.select([], [], [], 0.02)
    made.rmdir()


def test_a_script_that_takes_all_memory_is_told_to_be_killed_for_it(
    group: Path, shared: Workspace, tmp_path: Path
) -> None:
    fills = Witnessed(
        shared, tmp_path, "diary.log(run, 100); diary.say(20); diary.keep(3)\n" + FILLS,
        environment_variables={"GROUP": str(group)},
    ).submit()  # fmt: skip
    beside = Witnessed(shared, tmp_path, "diary.log(run, 100); diary.say(5)").submit()
    record = fills.check(status="Failed", reason="out_of_memory", words="SIGKILL")
    assert record.reason and "It used up to" in record.reason.message and "smaller batch" in record.reason.message
    assert fills.diary.done(0) > 100, "it was killed while it took memory"
    beside.check(status="Completed")


def test_a_worker_of_the_script_that_is_killed_for_memory_is_told(
    group: Path, shared: Workspace, tmp_path: Path
) -> None:
    text = f"""
import multiprocessing, textwrap
def work():
    {FILLS.strip().replace(chr(10), chr(10) + "    ")}
diary.say(20); diary.keep(3)
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
sys.exit(f"the worker ended with {{worker.exitcode}}")
"""
    run = Witnessed(shared, tmp_path, text, environment_variables={"GROUP": str(group)}).submit()
    record = run.check(status="Failed", reason="exit_code", words="the worker ended with -9")
    assert record.reason and "out-of-memory killer" in record.reason.message
