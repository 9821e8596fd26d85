"""The nursery and its keepers: the parents of all ranks. Standard library only, started as a script of its own.

The nursery is a clean, small, early process. For each node's part of a run the agent sends it one packet with the path
of a launch file and a socket; it forks a keeper, which starts the ranks, holds their log files, and has no logic:

- it says who it is before it starts a rank, then reports each rank's end, and ``done`` when no process of the run is
  left: a socket that closes without a word means that nothing was started;
- told ``T`` it sends SIGTERM to the ranks' process groups, told ``K`` it kills every descendant;
- if the socket closes, the agent is dead: it kills every descendant and leaves what happened in ``exit.json``.

As a child subreaper it inherits every orphan below it, so that a daemonized or setsid child is found and killed too.
If a keeper is killed, its ranks die with it (PR_SET_PDEATHSIG) and the nursery kills what they leave.

The launch file is JSON: ``ranks`` (list of {"argv", "env", "log"}), ``cwd``, ``exit_file``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is left out of this small process
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
RANK_OOM_SCORE = 500
"""Added to the ranks' badness, so that the kernel's out-of-memory killer takes them and never the server."""

_RESET = (
    signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ,
    signal.SIGHUP, signal.SIGQUIT,  # a shell may ignore these, and SIGINT, for what it starts with nohup or `&`
)  # fmt: skip
"""Signals that this process handles or ignores; an ignored one would stay ignored in the rank over exec."""
_libc = ctypes.CDLL(None, use_errno=True)


def nursery(control: socket.socket) -> None:
    """Fork a keeper per packet until the agent's end of ``control`` closes; then wait for the keepers."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_on_child()
    keepers: set[int] = set()
    agent_lives = True
    while agent_lives or keepers:
        watched: list[Any] = [wake, control] if agent_lives else [wake]
        ready = select.select(watched, [], [])[0]
        if control in ready:
            packet, fds, _, _ = socket.recv_fds(control, 4096, 1)
            if packet:
                os.set_inheritable(fds[0], False)  # or the ranks would hold their keeper's line to the agent
                keepers.add(_fork_keeper(packet.decode(), fds[0], control))
            else:
                agent_lives = False
        if wake in ready:
            _drain(wake)
            keepers -= _reap()
            _kill_children(spare=keepers)
    while _children():  # what dead keepers left, when the agent is dead as well
        _kill_children()
        os.waitpid(-1, 0)


def _fork_keeper(launch_file: str, fd: int, control: socket.socket) -> int:
    pid = os.fork()
    if pid:
        os.close(fd)
        return pid
    try:
        control.close()
        keep(launch_file, socket.socket(fileno=fd))
    except BaseException as problem:  # noqa: BLE001  a keeper has nobody above it to tell
        _say(f"keeper of {launch_file}: {problem!r}")
        os._exit(1)
    os._exit(0)


def keep(launch_file: str, control: socket.socket) -> None:
    """Run the launch's ranks to their end and report on ``control``; see the module."""
    os.setsid()
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _tell(control, {"keeper": os.getpid()})
    with open(launch_file) as f:
        launch = json.load(f)
    wake = _wake_on_child()
    ended: list[dict[str, Any]] = []
    ranks: dict[int, int] = {}
    try:
        os.chdir(launch["cwd"])
        for number, rank in enumerate(launch["ranks"]):
            ranks[_start_rank(rank)] = number
        _tell(control, {"started": list(ranks)})
    except OSError as problem:
        ended.append({"rank": len(ranks), "error": f"{problem.strerror}: {problem.filename}"})
    agent_lives = _watch(control, wake, ranks, ended) if ranks and not ended else True
    _kill_all(ranks, ended)
    report = {"ended": ended, "agent_lost": not agent_lives}
    _leave(report, launch["exit_file"])
    _tell(control, {"done": report})


def _leave(report: object, path: str) -> None:
    """Write the report for an agent that starts later; on a full disk only the living one is told."""
    try:
        with open(path + ".tmp", "w") as f:
            json.dump(report, f)
        os.replace(path + ".tmp", path)
    except OSError as problem:
        _say(f"{path} cannot be written: {problem}")


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
    except OSError:  # the agent's log lies on the same full disk
        pass


def _watch(control: socket.socket, wake: int, ranks: dict[int, int], ended: list[dict[str, Any]]) -> bool:
    """Serve orders and collect exits until every rank has ended; False when the agent was lost."""
    both: list[Any] = [control, wake]
    while len(ended) < len(ranks):
        ready: list[Any] = select.select(both, [], [])[0]
        if wake in ready:
            _drain(wake)
            _collect(ranks, ended, control)
        if control in ready:
            try:
                order = control.recv(1)
            except OSError:
                order = b""
            if not order:
                return False
            if order == b"T":
                for pid in ranks:
                    _signal_group(pid, signal.SIGTERM)
            elif order == b"K":
                for pid in ranks:
                    _signal_group(pid, signal.SIGKILL)
                _kill_children()
    return True


def _collect(ranks: dict[int, int], ended: list[dict[str, Any]], control: socket.socket | None = None) -> bool:
    """Reap every ended child and note those that are ranks; False when no child is left."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not pid:
            return True
        if pid in ranks:
            entry = {"rank": ranks[pid], "status": status, "peak_memory_bytes": usage.ru_maxrss * 1024}
            ended.append(entry)
            if control is not None:
                _tell(control, {"exited": entry})


def _kill_all(ranks: dict[int, int], ended: list[dict[str, Any]]) -> None:
    """Kill every descendant; each death hands its children to us, until none is left."""
    while _collect(ranks, ended):
        _kill_children()  # after the reaping: what is waited for next has been killed
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


def _start_rank(rank: dict[str, Any]) -> int:
    """Fork and exec one rank; raises the OSError that exec failed with."""
    log = os.open(rank["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    problem_read, problem_write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _become_rank(rank, log, null, problem_write, parent)
    for fd in (log, null, problem_write):
        os.close(fd)
    with os.fdopen(problem_read, "rb") as said:
        number = said.read()
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)), rank["argv"][0])
    return pid


def _become_rank(rank: dict[str, Any], log: int, null: int, problem_write: int, parent: int) -> None:
    try:
        os.setpgid(0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)
        _raise_oom_score()
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.set_wakeup_fd(-1)
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        os.execve(rank["argv"][0], rank["argv"], rank["env"])
    except OSError as problem:
        os.write(problem_write, str(problem.errno).encode())
    os._exit(127)


def _raise_oom_score() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write(str(RANK_OOM_SCORE))
    except OSError:  # some sandboxes forbid it; then the kernel chooses by size alone
        pass


def _kill_children(spare: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    for pid in _children():
        if pid not in spare:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _children() -> list[int]:
    """Pids of this process's children, zombies among them."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as f:
            return [int(pid) for pid in f.read().split()]
    except OSError:
        return []


def _reap() -> set[int]:
    gone: set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return gone
        if not pid:
            return gone
        gone.add(pid)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except OSError as problem:
        if problem.errno != errno.EAGAIN:
            raise


def _tell(control: socket.socket, message: object) -> None:
    try:
        control.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # the agent is gone; exit.json tells its successor
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nursery(socket.socket(fileno=int(sys.argv[1])))
