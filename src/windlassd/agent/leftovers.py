"""What an agent that was killed left behind: processes of its runs, and runs that nobody finished."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from windlass import settings
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
LAUNCH_FILE, STOP_FILE, EXIT_FILE = "launch.json", "stop.json", "exit.json"
_WAIT_S = 10.0
_KEEPER_MARK = os.path.join("windlassd", "agent", "keeper.py").encode()


def kill_part(launch: LaunchSpec, folder: RunFolder) -> None:
    """Kill every process of this part, and wait until none is left.

    Where parts of other nodes or attempts may be on this machine, its spool tells it from them; a launch that nobody
    knows anything of has neither script nor command.
    """
    alone = launch.node_count == 1 and bool(launch.script or launch.command) and not settings.elsewhere()
    kill_processes_of(launch.run_id, None if alone else folder.spool)


def kill_processes_of(run_id: str, spool: str | None = None) -> None:
    """Kill every process that carries the run's id (and ``spool``) in its environment, and wait until none is left."""
    deadline = time.monotonic() + _WAIT_S
    while pids := processes_of(run_id, spool):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            log.error("processes %s of %s do not end", pids, run_id)
            return
        time.sleep(0.02)


def processes_of(run_id: str, spool: str | None = None) -> Sequence[int]:
    """Pids of the live processes that carry the run's id (and ``spool``) in their environment."""
    marks = {f"{settings.RUN_ID_VARIABLE}={run_id}".encode()}
    if spool is not None:
        marks.add(f"{settings.SPOOL_DIR_VARIABLE}={spool}".encode())
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as f:
                if marks <= set(f.read().split(b"\0")) and not _is_zombie(name):
                    found.append(int(name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def kill_keeper_in(work: str) -> None:
    """Kill the keeper whose working folder is ``work``: one that outlived its agent is stopped, and would stay."""
    place = os.path.realpath(work)
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == place and _is_keeper(name):
                os.kill(int(name), signal.SIGKILL)
        except OSError:  # gone meanwhile, or another user's
            continue


def _is_keeper(pid: str) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return any(word.endswith(_KEEPER_MARK) for word in f.read().split(b"\0"))


def _is_zombie(pid: str) -> bool:
    return _stat(pid)[0] == b"Z"


def _parent_of(pid: str) -> int:
    return int(_stat(pid)[1])


def _stat(pid: str) -> Sequence[bytes]:
    """What follows the name in ``/proc/PID/stat``: the state, the parent's pid, …"""
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rpartition(b")")[2].split()


def read_launch(folder: RunFolder) -> LaunchSpec | None:
    """The launch whose processes an agent may have started in this folder, or None when it did not come to that."""
    data = _read(os.path.join(folder.agent, LAUNCH_FILE))
    try:
        return LaunchSpec.from_wire(data) if data else None
    except (KeyError, TypeError, ValueError) as problem:
        log.error("%s of %s makes no sense: %r", LAUNCH_FILE, folder.root, problem)
        return None


def was_another_boot(folder: RunFolder) -> bool:
    """True when the machine was restarted since the launch in this folder was begun."""
    boot = (_read(os.path.join(folder.agent, LAUNCH_FILE)) or {}).get("boot")
    return bool(boot) and boot != this_boot()


def this_boot() -> str:
    """The kernel's id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()


def remember_stop(folder: RunFolder, reason: Reason) -> None:
    """Note why the run is being ended, for an agent that has to finish it instead of this one."""
    try:
        with open(os.path.join(folder.agent, STOP_FILE), "w", encoding="utf-8") as f:
            json.dump({"code": reason.code, "message": reason.message}, f)
    except OSError as problem:  # the folder is not there before anything was started, or the disk is full
        log.info("the reason why %s is ended cannot be noted: %s", folder.root, problem)


def read_stop(folder: RunFolder) -> Reason | None:
    """Why an agent was ending the run, if it was."""
    data = _read(os.path.join(folder.agent, STOP_FILE))
    return Reason(str(data["code"]), str(data["message"])) if data and {"code", "message"} <= set(data) else None


def read_exit(
    folder: RunFolder, timeout_s: float = 5.0, may_come: Callable[[], bool] = lambda: True
) -> Mapping[str, object] | None:
    """What the keeper left in ``exit.json``; while it may be writing it right now, wait for it a little."""
    deadline = time.monotonic() + timeout_s
    while True:
        waiting = time.monotonic() < deadline and may_come()
        report = _read(os.path.join(folder.agent, EXIT_FILE))
        if report is not None or not waiting:
            return report
        time.sleep(0.02)


def others_keep(workspace_dir: str, own_nursery: int | None) -> bool:
    """True while a nursery or keeper of this workspace lives that is not of ``own_nursery``: a killed predecessor's.

    They work in the agent's folder or in a run's.
    """
    place = os.path.join(os.path.realpath(workspace_dir), "")
    for name in os.listdir("/proc"):
        try:
            if (
                name.isdigit() and os.readlink(f"/proc/{name}/cwd").startswith(place) and _is_keeper(name)
                and own_nursery not in (int(name), _parent_of(name))
            ):  # fmt: skip
                return True
        except OSError:  # gone meanwhile, or another user's
            continue
    return False


def ended_at(folder: RunFolder) -> float | None:
    """When the keeper saw the run's processes end, as Unix seconds; None when it did not tell."""
    try:
        return os.path.getmtime(os.path.join(folder.agent, "exit.json"))
    except OSError:
        return None


def _read(path: str) -> Mapping[str, object] | None:
    try:
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
