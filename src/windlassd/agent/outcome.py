"""Why a node's part ended as it did, in words a user can act on."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass.specs.launch import LaunchSpec, Outcome
from windlass.specs.run import Reason
from windlassd.agent.engines import refusal
from windlassd.agent.environ import process_of
from windlassd.agent.launch import container
from windlassd.agent.launch.single import log_name
from windlassd.blobs.run_folder import RunFolder

_TAIL_BYTES = 16 << 10
_TAIL_LINES = 12
_TAIL_COLUMNS = 500
_OUT_OF_MEMORY = ("MemoryError", "std::bad_alloc", "CUDA out of memory", "OutOfMemoryError", "Cannot allocate memory")
_NO_ROOM_BYTES = 64 << 10
_STOPPED = (
    "the container engine had asked for its end (it was stopped or restarted, or somebody used `docker stop`). Submit "
    "it again"
)
_DISK_FULL = ("No space left on device", "Disk quota exceeded")


def judge(
    launch: LaunchSpec, folder: RunFolder, report: Mapping[str, Any], stop: Reason | None, oom_kills: int
) -> Outcome:
    """The outcome of a launch whose keeper reported ``report``.

    Args:
        launch: What was started.
        folder: Where its logs lie.
        report: ``{"ended": [{"rank", "status", …}], "agent_lost"}`` in the order the ranks ended.
        stop: Why the agent was told to end it, if it was.
        oom_kills: How often the kernel's out-of-memory killer struck on this machine while it ran.
    """
    ended: Sequence[Mapping[str, Any]] = report["ended"]
    if launch.container:
        ended = [_as_its_holder_says(launch, folder, entry) for entry in ended]
    peak = max((e.get("peak_memory_bytes", 0) for e in ended), default=0) or None
    first = next((e for e in ended if "error" in e or e["status"] != 0), None)
    if stop is not None and stop.code != "canceled":
        return Outcome(reason_code=stop.code, message=stop.message, peak_memory_bytes=peak)
    if stop is not None and (first is not None or len(ended) < launch.process_count):
        return Outcome(canceled=True, reason_code=stop.code, message=stop.message, peak_memory_bytes=peak)
    if report.get("agent_lost") and not all_ended_by_themselves(launch, report):
        return Outcome(
            reason_code="agent_lost", peak_memory_bytes=peak,
            message=f"The agent on {launch.node} ended unexpectedly; the run's processes were ended with it."
            f"{_last_words(launch, folder, 0)}",
        )  # fmt: skip
    if first is None:
        return Outcome(message="", peak_memory_bytes=peak)
    failure = _failure(launch, folder, first, oom_kills)
    return replace(failure, rank=process_of(launch, first["rank"]), peak_memory_bytes=peak)


def all_ended_by_themselves(
    launch: LaunchSpec, report: Mapping[str, Any], foreign: Sequence[int] = (signal.SIGKILL,)
) -> bool:
    """True when every rank ended, and none by a ``foreign`` signal: a keeper whose agent is gone uses SIGKILL."""
    codes = [os.waitstatus_to_exitcode(entry["status"]) for entry in report["ended"] if "status" in entry]
    return len(codes) >= launch.process_count and not any(-code in foreign for code in codes)


def stopped(reason: Reason) -> Outcome:
    """The outcome of a launch that was told to end before it had a keeper, or whose keeper did not answer."""
    return Outcome(canceled=reason.code == "canceled", reason_code=reason.code, message=reason.message)


def machine_restarted(launch: LaunchSpec, folder: RunFolder) -> Outcome:
    """The outcome when the machine went down under the run."""
    return Outcome(
        reason_code="machine_restarted",
        message=f"The machine of {launch.node} was restarted while the run was under way, which ended it. What it had "
        f"logged and written is kept; submit it again.{_last_words(launch, folder, 0)}",
    )


def keeper_lost(launch: LaunchSpec, folder: RunFolder) -> Outcome:
    """The outcome when the keeper itself was killed."""
    return Outcome(
        reason_code="keeper_lost",
        message=f"The process that looked after the run on {launch.node} was killed, and the run's processes with it."
        f"{_last_words(launch, folder, 0)}",
    )


def could_not_start(code: str, message: str) -> Outcome:
    """The outcome of a launch of which nothing was started."""
    return Outcome(reason_code=code, message=message)


def _failure(launch: LaunchSpec, folder: RunFolder, first: Mapping[str, Any], oom_kills: int) -> Outcome:
    rank = first["rank"]
    if "error" in first:
        return Outcome(
            reason_code="start_failed",
            message=f"The process could not be started on {launch.node}: {first['error']}.",
        )
    if "refusal" in first:
        return Outcome(
            reason_code=first["refusal"].error_code,
            message=f"The run could not be started on {launch.node}: {first['refusal'].message}",
        )
    if "lost" in first:
        return _lost_container(launch, folder, first)
    oom_kills = first.get("oom_kills", oom_kills)
    alone = launch.node_count * launch.process_count == 1
    who = f"The script on {launch.node}" if alone else f"Rank {process_of(launch, rank)} on {launch.node}"
    words, tail = _last_words(launch, folder, rank), _tail(launch, folder, rank)
    peak = f" It used up to {_human(first['peak_memory_bytes'])}." if first.get("peak_memory_bytes") else ""
    code = os.waitstatus_to_exitcode(first["status"])
    if code < 0:
        return _by_signal(launch, -code, bool(oom_kills), bool(first.get("stopped")), (who, peak, words))
    if first.get("stopped"):
        return Outcome(
            exit_code=code, reason_code="container_stopped",
            message=f"{who} exited with code {code}: {_STOPPED}.{words}",
        )  # fmt: skip
    if any(mark in tail for mark in _OUT_OF_MEMORY):
        return Outcome(
            exit_code=code, reason_code="out_of_memory",
            message=f"{who} ran out of memory and exited with code {code}.{words}",
        )  # fmt: skip
    if any(mark in tail for mark in _DISK_FULL) or _is_full(folder.root):
        return Outcome(
            exit_code=code, reason_code="disk_full",
            message=f"{who} found the disk full and exited with code {code}. Free space, then submit again."
            f"{_shared_memory(launch)}{words}",
        )  # fmt: skip
    killed = " Meanwhile the kernel's out-of-memory killer ended a process, perhaps one of it." if oom_kills else ""
    return Outcome(exit_code=code, reason_code="exit_code", message=f"{who} exited with code {code}.{killed}{words}")


def _by_signal(launch: LaunchSpec, number: int, oom: bool, stopped: bool, told: tuple[str, str, str]) -> Outcome:
    """``told``: who was ended, what it used, and its last words."""
    name, (who, peak, words) = _signal_name(number), told
    if number == signal.SIGKILL and oom:
        why, way_out = _what_was_full(launch)
        return Outcome(
            exit_signal=name, reason_code="out_of_memory",
            message=f"{who} was killed by the kernel because {why} ({name}).{peak} {way_out}.{words}",
        )  # fmt: skip
    if stopped:
        return Outcome(
            exit_signal=name, reason_code="container_stopped",
            message=f"{who} was ended by {name}: {_STOPPED}.{words}",
        )  # fmt: skip
    return Outcome(
        exit_signal=name, reason_code="signal",
        message=f"{who} was ended by {name}{_hint(number)}.{peak if number == signal.SIGKILL else ''}"
        f"{_shared_memory(launch) if number == signal.SIGBUS else ''}{words}",
    )  # fmt: skip


def _as_its_holder_says(launch: LaunchSpec, folder: RunFolder, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keeper saw the holder of a container end; how the script in it ended, the holder tells."""
    assert launch.container is not None
    if "status" not in entry:
        return entry
    entry = {"rank": entry["rank"], "status": entry["status"]}  # the memory was the holder's own
    said = container.report_of(folder, entry["rank"])
    if said is None:
        return entry if entry["status"] == 0 else {**entry, "lost": "holder"}
    if "errno" in said:
        program = launch.command[0] if launch.command and not launch.shell else launch.python
        return {**entry, "error": f"{os.strerror(said['errno'])}: {program}"}
    if "http" in said:
        given = launch.container
        return {**entry, "refusal": refusal(given.engine, given.image, said["http"], said["message"])}
    if "lost" in said:
        return {**entry, "lost": "container", "oom": bool(said.get("oom"))}
    return {**entry, **{key: said[key] for key in ("peak_memory_bytes", "oom_kills", "stopped") if key in said}}


def _lost_container(launch: LaunchSpec, folder: RunFolder, first: Mapping[str, Any]) -> Outcome:
    words = _last_words(launch, folder, first["rank"])
    if first.get("oom"):
        why, way_out = _what_was_full(launch)
        return Outcome(
            exit_signal="SIGKILL", reason_code="out_of_memory",
            message=f"The container on {launch.node} was ended by the kernel because {why}. {way_out}.{words}",
        )  # fmt: skip
    if first["lost"] == "holder":
        return Outcome(
            reason_code="keeper_lost",
            message=f"The process that looked after the run's container on {launch.node} was killed, and the container "
            f"with it.{words}",
        )
    return Outcome(
        reason_code="container_lost",
        message=f"The run's container on {launch.node} was ended from outside Windlass: somebody killed or removed it, "
        f"or its engine was stopped or restarted. Submit it again.{words}",
    )


def _what_was_full(launch: LaunchSpec) -> tuple[str, str]:
    """Why the kernel took the script, and what to do about it."""
    limit = launch.container.options.memory_bytes if launch.container else None
    if limit:
        return (
            f"its container reached its memory limit of {_human(limit)}",
            "Give it more (v1: --memory among the docker arguments), or use a smaller batch or model",
        )
    return (
        "the machine ran out of memory, or a limit was reached",
        "Use a smaller batch or model, or fewer runs at once",
    )


def _shared_memory(launch: LaunchSpec) -> str:
    """What else it may be in a container, whose shared memory is small; data loaders fill it."""
    if launch.container is None or launch.container.options.host_ipc:
        return ""
    room = _human(launch.container.options.shm_bytes or container.SHM_BYTES)
    return f" A full /dev/shm looks the same: its container has {room} of it (v1: shm_size)."


def _is_full(folder: str) -> bool:
    """A script that fails on a full disk often cannot say so: its log is on the same disk."""
    try:
        left = os.statvfs(folder)
    except OSError:
        return False
    return left.f_bavail * left.f_frsize < _NO_ROOM_BYTES


def _hint(number: int) -> str:
    if number == signal.SIGKILL:
        return (
            " (killed from outside Windlass: by somebody, by itself, or by a container or job system whose memory "
            "limit it passed)"
        )
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
        return " (it crashed in native code)"
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(launch: LaunchSpec, folder: RunFolder, rank: int) -> str:
    tail = _tail(launch, folder, rank)
    return f" Its log ends with:\n{tail}" if tail else " It wrote nothing to its log."


def _tail(launch: LaunchSpec, folder: RunFolder, rank: int) -> str:
    path = folder.find(log_name(launch, rank))
    if path is None:
        return ""
    try:
        with open(path, "rb") as f:
            f.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
            lines = f.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:  # removed meanwhile
        return ""
    return "\n".join(_printable(line[:_TAIL_COLUMNS]) for line in lines[-_TAIL_LINES:]).rstrip()


def _printable(line: str) -> str:
    """``line`` with control characters as escapes: a reason is shown by terminals, which would obey them."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)


def _human(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"


def oom_kills() -> int:
    """How often the kernel's out-of-memory killer has struck since boot (0 where the kernel does not tell)."""
    try:
        with open("/proc/vmstat") as f:
            return next((int(line.split()[1]) for line in f if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0
