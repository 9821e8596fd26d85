"""Why a run ended, in words a user can act on."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from windlass.specs.container import ContainerLaunch, ContainerOptions
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason
from windlassd.agent import outcome
from windlassd.agent.launch import container
from windlassd.blobs.run_folder import DRIVER_LOG, RunFolder

LAUNCH = LaunchSpec("run_1", 1, "gpu-0", 0, "train.py", (), "5" * 64, "/usr/bin/python3")
CANCELED = Reason("canceled", "The run was canceled.")
TIME = Reason("time_limit", "The run was ended because it took longer than its 5 s.")


def exited(code: int, rank: int = 0) -> dict[str, Any]:
    return {"rank": rank, "status": code << 8, "peak_memory_bytes": 3 << 30}


def signaled(number: int, rank: int = 0) -> dict[str, Any]:
    return {"rank": rank, "status": number, "peak_memory_bytes": 5 << 20}


def wrote(folder: RunFolder, text: str, name: str = DRIVER_LOG) -> None:
    Path(folder.log(name)).write_text(text)


def report(*ended: dict[str, Any], lost: bool = False) -> dict[str, Any]:
    return {"ended": list(ended), "agent_lost": lost}


@pytest.mark.parametrize(
    ("ended", "stop", "kills", "log", "code", "exit_code", "exit_signal", "words"),
    [
        (exited(0), None, 0, "fine", "completed", None, None, []),
        (exited(3), None, 0, "bad rate\n", "exit_code", 3, None, ["exited with code 3", "ends with:\nbad rate"]),
        (exited(1), None, 0, "", "exit_code", 1, None, ["code 1", "wrote nothing to its log"]),
        (
            exited(1),
            None,
            0,
            "a\nMemoryError\n",
            "out_of_memory",
            1,
            None,
            ["ran out of memory and exited with code 1"],
        ),
        (exited(1), None, 0, "torch.OutOfMemoryError: CUDA out of memory", "out_of_memory", 1, None, ["code 1"]),
        (exited(1), None, 0, "OSError: [Errno 28] No space left on device", "disk_full", 1, None, ["Free space"]),
        (exited(1), None, 5, "words", "exit_code", 1, None, []),
        (signaled(9), None, 0, "", "signal", None, "SIGKILL", ["memory limit it passed", "5 MiB"]),
        (signaled(9), None, 1, "", "out_of_memory", None, "SIGKILL", ["kernel", "5 MiB", "smaller batch"]),
        (signaled(11), None, 1, "x", "signal", None, "SIGSEGV", ["SIGSEGV (it crashed in native code)"]),
        (signaled(15), None, 0, "x", "signal", None, "SIGTERM", ["was ended by SIGTERM."]),
        (signaled(40), None, 0, "x", "signal", None, "signal 40", ["signal 40"]),
        (signaled(15), CANCELED, 0, "x", "canceled", None, None, ["The run was canceled."]),
        (exited(1), CANCELED, 0, "x", "canceled", None, None, []),
        (exited(0), CANCELED, 0, "x", "completed", None, None, []),
        (signaled(9), TIME, 0, "x", "time_limit", None, None, ["longer than its 5 s"]),
        (exited(0), TIME, 0, "x", "time_limit", None, None, []),
    ],
)
def test_the_table(
    folder: RunFolder, ended: dict[str, Any], stop: Reason | None, kills: int, log: str, code: str,
    exit_code: int | None, exit_signal: str | None, words: list[str],
) -> None:  # fmt: skip
    wrote(folder, log)
    found = outcome.judge(LAUNCH, folder, report(ended), stop, kills)
    assert (found.reason_code, found.exit_code, found.exit_signal) == (code, exit_code, exit_signal)
    assert found.ok is (code == "completed") and found.canceled is (code == "canceled")
    for word in words:
        assert word in found.message
    if code not in ("completed", "canceled", "time_limit"):
        assert "The script on gpu-0" in found.message and found.rank == 0


def test_a_run_canceled_before_it_reported_is_canceled(folder: RunFolder) -> None:
    assert outcome.judge(LAUNCH, folder, report(), CANCELED, 0).canceled


def test_the_first_to_fail_is_named_with_its_own_log(folder: RunFolder) -> None:
    two = replace(LAUNCH, process_count=2)
    wrote(folder, "I was ended", "azureml-logs/70_driver_log_0.txt")
    wrote(folder, "I broke", "azureml-logs/70_driver_log_1.txt")
    found = outcome.judge(two, folder, report(exited(7, rank=1), signaled(signal.SIGTERM)), None, 0)
    assert (found.rank, found.exit_code) == (1, 7)
    assert "Rank 1 on gpu-0 exited with code 7" in found.message and "I broke" in found.message


def test_a_lost_agent_says_so_and_shows_the_log(folder: RunFolder) -> None:
    wrote(folder, "epoch 3\n")
    found = outcome.judge(LAUNCH, folder, report(signaled(9), lost=True), None, 0)
    assert found.reason_code == "agent_lost" and "agent on gpu-0 ended unexpectedly" in found.message
    assert found.message.endswith("epoch 3") and found.peak_memory_bytes == 5 << 20


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ((exited(0),), "completed"),
        ((exited(3),), "exit_code"),
        ((signaled(signal.SIGSEGV),), "signal"),
        ((signaled(signal.SIGKILL),), "agent_lost"),
        ((), "agent_lost"),
    ],
)
def test_a_script_that_ended_by_itself_while_its_agent_was_lost(
    folder: RunFolder, ended: tuple[dict[str, Any], ...], code: str
) -> None:
    assert outcome.judge(LAUNCH, folder, report(*ended, lost=True), None, 0).reason_code == code


def test_a_machine_that_was_restarted_is_named(folder: RunFolder) -> None:
    wrote(folder, "epoch 3\n")
    found = outcome.machine_restarted(LAUNCH, folder)
    assert found.reason_code == "machine_restarted" and not found.ok
    assert "The machine of gpu-0 was restarted" in found.message and found.message.endswith("epoch 3")


@pytest.mark.parametrize(("reason", "canceled"), [(CANCELED, True), (TIME, False)])
def test_told_to_end_before_anything_was_started(reason: Reason, canceled: bool) -> None:
    found = outcome.stopped(reason)
    assert (found.canceled, found.reason_code, found.message) == (canceled, reason.code, reason.message)


def test_a_process_that_could_not_start(folder: RunFolder) -> None:
    broken = {"rank": 0, "error": "No such file or directory: /no/python"}
    found = outcome.judge(LAUNCH, folder, report(broken), None, 0)
    assert found.reason_code == "start_failed" and "/no/python" in found.message


def test_a_lost_keeper_and_nothing_started(folder: RunFolder) -> None:
    assert "on gpu-0 was killed" in outcome.keeper_lost(LAUNCH, folder).message
    assert outcome.could_not_start("start_failed", "why").message == "why"


def test_the_shown_end_of_a_log_is_short(folder: RunFolder) -> None:
    wrote(folder, "\n".join(f"line {i} " + "x" * 1000 for i in range(500)) + "\n")
    message = outcome.judge(LAUNCH, folder, report(exited(1)), None, 0).message
    assert "line 499" in message and "line 488" in message and "line 487" not in message
    assert len(message) < 12 * 502 + 100


def test_a_reason_does_not_command_the_terminal(folder: RunFolder) -> None:
    wrote(folder, "\x1b[2J\x1b]0;evil\x07\tna\u00efve \x00\n")
    message = outcome.judge(LAUNCH, folder, report(exited(1)), None, 0).message
    assert message.endswith("\\x1b[2J\\x1b]0;evil\\x07\tna\u00efve \\x00")


def test_the_kernels_counter_can_be_read() -> None:
    assert outcome.oom_kills() >= 0


CONTAINER = replace(
    LAUNCH, container=ContainerLaunch("sha256:abc", "unix:///e.sock", ContainerOptions(memory_bytes=256 << 20))
)


@pytest.mark.parametrize(
    ("entry", "left", "code", "words"),
    [
        (exited(0), {"status": 0, "peak_memory_bytes": 7 << 20}, "completed", []),
        (exited(3), {"status": 3 << 8}, "exit_code", ["exited with code 3"]),
        (signaled(9), {"status": 9, "oom_kills": 1, "peak_memory_bytes": 5 << 20}, "out_of_memory",
         ["its memory limit of 256 MiB", "5 MiB", "--memory"]),
        (signaled(9), {"status": 9, "oom_kills": 0}, "signal", ["SIGKILL"]),
        (signaled(9), None, "keeper_lost", ["looked after the run's container"]),
        (signaled(9), {"lost": True, "oom": False}, "container_lost", ["from outside Windlass", "Submit it again"]),
        (signaled(9), {"lost": True, "oom": True}, "out_of_memory", ["its memory limit of 256 MiB"]),
        (signaled(15), {"status": 15, "stopped": True}, "container_stopped", ["SIGTERM", "docker stop"]),
        (exited(1), {"status": 1 << 8, "stopped": True}, "container_stopped", ["code 1", "docker stop"]),
        (exited(127), {"errno": 2}, "start_failed", ["No such file or directory: /usr/bin/python3"]),
        (exited(125), {"http": 0, "message": "Connection refused"}, "engine_down", ["unix:///e.sock does not answer"]),
        (exited(125), {"http": 404, "message": "No such image: x"}, "image_gone", ["Submit again"]),
    ],
)  # fmt: skip
def test_the_end_of_a_container(folder: RunFolder, entry: Any, left: Any, code: str, words: list[str]) -> None:
    if left is not None:
        Path(container.report_path(folder, 0)).write_text(json.dumps(left) + "   ")
    found = outcome.judge(CONTAINER, folder, report(entry), None, 1)
    assert found.reason_code == code
    for text in words:
        assert text in found.message
    assert found.peak_memory_bytes == (left or {}).get("peak_memory_bytes"), "never the holder's own"
