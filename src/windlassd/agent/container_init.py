"""The first process of a job's container: starts the script, and takes everything in the container with it.

Runs on the image's own Python (3.7 or newer, standard library only; modules that load quickly). Its arguments are the
words to execute. It connects to its holder (``holder.py``) through the socket ``line`` beside this file and is sent a
byte with the descriptor of the job's log, so that the script writes there by itself, with nobody in between. Then

- it says ``started``, or ``error NUMBER`` (errno) and ends;
- told ``T`` it sends SIGTERM to the script's process group, and so it does when the engine stops the container;
- when the script has ended it kills what is left, then says ``ended STATUS PEAK_KIB OOM_KILLS STOPPED``: the status as
  ``wait`` gives it, and 1 when the engine had asked for the end;
- when the line closes, its holder is dead: it ends. As it is the first process, the kernel kills all others then.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is left out of this small process
    import signal
    from typing import Any
else:  # without the enumerations of the public module, which take longer to load than all the rest
    import _signal as signal

_OOM_SCORE = b"500"
_STRAGGLERS_S = 5.0
_HOMES = ("/tmp", "/var/tmp", "/dev/shm")
_RESET = (
    signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGQUIT,
)  # fmt: skip


def main() -> int:
    """Run the words of the command line to their end; the exit code is a shell's, for who looks with the engine."""
    line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        line.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "line"))
        log = _log_from(line)
    except OSError:  # the holder was killed meanwhile
        return 1
    wake = _wake_on_signals()
    pid, problem = _start(sys.argv[1:], log)
    os.close(log)
    if problem:
        line.sendall(b"error %d\n" % problem)
        return 127
    line.sendall(b"started\n")
    status, peak_kib, stopped = _watch(line, wake, pid)
    struck = _oom_kills()
    _kill_stragglers(wake)
    line.sendall(b"ended %d %d %d %d\n" % (status, peak_kib, struck, stopped))
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _log_from(line: socket) -> int:
    """The descriptor that the holder sends once the script may start."""
    word, ancillary, _, _ = line.recvmsg(1, CMSG_SPACE(4))
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            found = int.from_bytes(data[:4], sys.byteorder)
            os.set_inheritable(found, False)
            return found
    raise OSError("the line closed" if not word else "no log came")


def _start(argv: list[str], log: int) -> tuple[int, int]:
    """Fork and exec the script: its pid, and 0 or the errno that exec failed with."""
    said, tell = os.pipe()  # not inherited, so exec closes it
    _find_places()
    pid = os.fork()
    if not pid:
        try:
            os.setpgid(0, 0)
            _raise_oom_score()
            null = os.open(os.devnull, os.O_RDONLY)
            for target, source in enumerate((null, log, log)):
                os.dup2(source, target)
            signal.set_wakeup_fd(-1)
            for handled in _RESET:
                signal.signal(handled, signal.SIG_DFL)
            os.execvp(argv[0], argv)
        except OSError as failure:
            os.write(tell, b"%d" % (failure.errno or 1))
        os._exit(127)
    os.close(tell)
    number = os.read(said, 16)
    os.close(said)
    return pid, int(number or 0)


def _find_places() -> None:
    """Point HOME and TMPDIR to folders that this user can write; images know only the users they were made for."""
    home = os.environ.get("HOME", "")
    if not _writable(home):
        os.environ["HOME"] = next((place for place in _HOMES if _writable(place)), os.getcwd())
    if not os.environ.get("TMPDIR") and not any(map(_writable, _HOMES[:2])):
        os.environ["TMPDIR"] = os.environ["HOME"]


def _writable(folder: str) -> bool:
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
    except OSError:
        pass
    return os.access(folder, os.W_OK | os.X_OK)


def _raise_oom_score() -> None:
    """The kernel shall take the script and never this process, which tells what became of it."""
    try:
        with open("/proc/self/oom_score_adj", "wb") as f:
            f.write(_OOM_SCORE)
    except OSError:  # some sandboxes forbid it
        pass


def _watch(line: socket, wake: int, script: int) -> tuple[int, int, bool]:
    """The script's status, its peak memory in KiB, and whether the engine asked for its end."""
    stopped = False
    both: list[Any] = [line, wake]
    while True:
        ready = select.select(both, [], [])[0]
        if line in ready:
            try:
                order = line.recv(16)
            except OSError:
                order = b""
            if not order:
                os._exit(1)
            _terminate(script)
        if wake in ready:
            if bytes([signal.SIGTERM]) in os.read(wake, 4096):
                stopped = True
                _terminate(script)
            while True:
                try:
                    pid, status, usage = os.wait4(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == script:
                    return status, usage.ru_maxrss, stopped
                if not pid:
                    break


def _terminate(script: int) -> None:
    try:
        os.killpg(script, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        pass


def _kill_stragglers(wake: int) -> None:
    """Kill and reap what the script left running; the kernel does so, too, when this process ends."""
    if os.getpid() != 1:  # outside of a container "all" would be the machine's
        return
    deadline = time.monotonic() + _STRAGGLERS_S
    try:
        os.kill(-1, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if select.select([wake], [], [], 0.2)[0]:
            os.read(wake, 4096)


def _oom_kills() -> int:
    """How often the kernel's out-of-memory killer struck in this container (0 where the kernel does not tell)."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path, "rb") as f:
                for entry in f:
                    if entry.startswith(b"oom_kill "):
                        return int(entry.split()[1])
        except (OSError, ValueError):
            continue
    return 0


def _wake_on_signals() -> int:
    """A descriptor that gives the number of each signal that came: a child's end, or SIGTERM from the engine."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(write)
    return read


if __name__ == "__main__":
    try:
        code = main()
    except OSError:  # the line: the holder was killed
        code = 1
    os._exit(code)
