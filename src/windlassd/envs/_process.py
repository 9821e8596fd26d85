"""Running a builder's program so that it ends with its caller: on stop, on timeout, and when this process is killed.

It runs at low priority, so that the jobs of the machine do not feel it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from windlassd.envs.base import Work

# The program leads a process group; a watcher in the same group reads a pipe that only this process can write to. When
# this process closes the pipe or dies, even by SIGKILL, the watcher kills the group: the program, the compilers it
# started, and itself. PR_SET_PDEATHSIG would reach the program alone, and when a mere thread of ours ends.
# The first line tells that its priority is set, which it hands on to all that it starts.
_WATCHED = (
    "exec 3<&0; read -r line <&3 || exit 125; "
    '{ read -r line <&3; kill -KILL 0; } >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'
)
# A tenth of the processor where jobs want all of it, and all where nobody else wants it. Linux takes the priority on
# the disk from the same number.
_NICE = 10
_FOLDERS = 100  # from this number on open folders are found; hardly any other file gets one that high
_STOP_POLL_S = 0.05  # output and exit wake the loop at once; this is only how soon a stop is seen

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """How a program ended, and what it wrote."""

    code: int
    """Exit status; negative for a signal."""
    out: str
    err: str


@dataclass(frozen=True)
class MemoryFile:
    """A file without a name on disk, so that a kill leaves none; ``path`` is for the program it is handed to."""

    fd: int

    @property
    def path(self) -> str:
        """The path under which a program started with this file sees it."""
        return f"/proc/self/fd/{self.fd}"


@contextlib.contextmanager
def memory_file(text: str) -> Iterator[MemoryFile]:
    """A file that holds ``text`` until the ``with`` ends."""
    made = os.memfd_create("windlass", os.MFD_CLOEXEC)
    fd = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 10)  # the watching shell has a use of its own for the low numbers
    os.close(made)
    try:
        os.write(fd, text.encode())
        yield MemoryFile(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True)
class OpenFolder(MemoryFile):
    """A folder under a path that is the same for each folder, for a program that remembers things by path."""

    name: str
    """Its own path."""


@contextlib.contextmanager
def open_folder(name: str) -> Iterator[OpenFolder]:
    """The folder ``name``, until the ``with`` ends."""
    opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fd = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _FOLDERS)
    os.close(opened)
    try:
        yield OpenFolder(fd, name)
    finally:
        os.close(fd)


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    work: Work,
    *,
    files: Sequence[MemoryFile] = (),
    on_line: Callable[[str], None] | None = None,
    nice: int = _NICE,
) -> Output:
    """Run ``argv`` in ``/`` and return how it ended; each line of its standard error goes to ``on_line`` as it comes.

    Raises:
        EnvironmentStopped, EnvironmentFailed: ``work`` gave up; the program and its children are dead.
    """
    work.give_up()
    process = subprocess.Popen(
        ["/bin/sh", "-c", _WATCHED, "sh", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd="/",
        start_new_session=True,
        pass_fds=[file.fd for file in files],
    )
    try:
        _lower(process.pid, nice)
        _let_go(process)
        out, err = _collect(process, work, on_line)
        return Output(process.wait(), out, err)
    finally:
        _end(process)


def _collect(process: subprocess.Popen[bytes], work: Work, on_line: Callable[[str], None] | None) -> tuple[str, str]:
    """Standard output and error of ``process``, read until both are closed."""
    assert process.stdout and process.stderr
    taken: dict[str, bytes] = {"out": b"", "err": b""}
    told = 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "out")
        selector.register(process.stderr, selectors.EVENT_READ, "err")
        while selector.get_map():
            for key, _ in selector.select(_STOP_POLL_S):
                data = os.read(key.fd, 65536)
                taken[key.data] += data
                if not data:
                    selector.unregister(key.fileobj)
            if on_line:
                told = _tell(taken["err"], told, on_line)
            work.give_up()
    if on_line and told < len(taken["err"]):
        on_line(taken["err"][told:].decode(errors="replace"))
    return taken["out"].decode(errors="replace"), taken["err"].decode(errors="replace")


def _tell(data: bytes, told: int, on_line: Callable[[str], None]) -> int:
    """Hand on the complete lines after offset ``told``; returns the new offset."""
    end = data.rfind(b"\n") + 1
    for line in data[told:end].splitlines():
        on_line(line.decode(errors="replace"))
    return max(told, end)


def _lower(pid: int, nice: int) -> None:
    """Give way to jobs: a small share where they want the processor, and no sudden wish for it."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, max(nice, os.getpriority(os.PRIO_PROCESS, pid)))
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
        _lower_session(pid, nice)
    except OSError as problem:  # some containers forbid it; the work is worth more than its manners
        _logger.info("the priority of process %d stays as it is: %s", pid, problem)


def _lower_session(pid: int, nice: int) -> None:
    """The same for its session, which the kernel may schedule as a whole: a process's own number counts within it only.

    See sched(7), "The autogroup feature"; for others than root it takes ten a second.
    """
    try:
        with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as f:
            f.write(str(nice))
    except FileNotFoundError:
        pass  # a kernel without it


def _let_go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # it has ended: how, its status tells
        process.stdin.write(b"\n")
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group and reap its leader."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()  # closing stdin makes the watcher end itself and any straggler
