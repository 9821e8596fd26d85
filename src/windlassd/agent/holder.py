"""A holder: the process under the keeper that stands for one process in a container. Standard library only.

It is started as a script of its own, with the plan's file as its argument, and has no logic: it has the container made
and started, hands its own standard output (the job's log) to the container's first process (``container_init.py``),
sends a SIGTERM on, and ends as the script ended: with its exit code, or by its signal. What an exit status cannot tell
it leaves in the plan's ``report``. Killed, it takes the container with it: the line to the first process closes.

The plan is JSON: ``engine`` (its address), ``name``, ``create`` (the body of the engine's call), ``line``
(folder of the socket that the first process connects to) and ``report``.

The report is JSON, one of: ``{"status", "peak_memory_bytes", "oom_kills", "stopped"}`` once the script has ended,
``{"errno"}`` when it could not be executed, ``{"http", "message"}`` when the engine refused (``http`` 0: it did not
answer), ``{"lost": true, "oom": bool}`` when the container was ended from outside. Without it the holder was killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is left out of this small process
    from typing import Any

ENGINE_S = 120.0
"""How long the engine may take for one answer."""
LINE = "line"
UNIX = "unix://"
REPORT_BYTES = 4096
"""The report's room is taken before the container starts: on a full disk it can still be written."""
_LOST_S = 10.0
_REFUSED = 125


class EngineError(Exception):
    """The engine refused, with its HTTP status and words; status 0: nobody answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Terminated(Exception):
    """SIGTERM came before the script was started."""


class Call:
    """One call on an engine, under way: ``fileno`` becomes readable when something of the answer is there."""

    def __init__(self, engine: str, method: str, path: str, body: object = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        # Answers to HTTP/1.0 come in one piece, and the line closes behind them.
        head = "%s %s HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        unix = engine.startswith(UNIX)
        self._sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        self._answer = b""
        try:
            host, _, port = engine.rpartition("//")[2].partition(":")
            self._sock.connect(engine[len(UNIX) :] if unix else (host, int(port)))
            self._sock.sendall((head % (method, path, len(content))).encode() + content)
        except OSError as problem:
            self._sock.close()
            raise EngineError(0, problem.strerror or str(problem)) from problem

    def fileno(self) -> int:
        """For ``select``."""
        return self._sock.fileno()

    def close(self) -> None:
        """Ask no more."""
        self._sock.close()

    def read(self) -> bool:
        """Take what is there; True when the answer is whole."""
        try:
            data = self._sock.recv(65536)
        except OSError:
            data = b""
        self._answer += data
        return not data

    def result(self) -> Any:
        """The answer's content.

        Raises:
            EngineError: it is a refusal, or none came.
        """
        self.close()
        head, _, content = self._answer.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        if len(words) < 2 or not words[1].isdigit():
            raise EngineError(0, "it hung up")
        status = int(words[1])
        try:
            found = json.loads(content) if content.strip() else None
        except ValueError:
            found = None
        if status >= 400:
            said = found.get("message") or found.get("cause") if isinstance(found, dict) else None
            raise EngineError(status, str(said or content[:500].decode("utf-8", "replace")))
        return found


def call(engine: str, method: str, path: str, body: object = None, timeout_s: float = ENGINE_S) -> Any:
    """The engine's answer to one call.

    Raises:
        EngineError: it refused, or nobody answered.
    """
    with contextlib.closing(Call(engine, method, path, body)) as asked:
        deadline = time.monotonic() + timeout_s
        while select.select([asked], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if asked.read():
                return asked.result()
    raise EngineError(0, f"it did not answer within {timeout_s:g} s")


def hold(plan: dict[str, Any]) -> int:
    """Run the plan's container to its end; the script's status as ``wait`` gives it."""
    report = _Report(plan["report"])
    wake = _wake_on_terminate()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.chdir(plan["line"])  # the path of a socket has to be short
    _remove_file(LINE)
    listener.bind(LINE)
    listener.listen(1)
    try:
        line = _enter(plan, listener, wake)
        listener.close()
        return _follow(line, wake, plan, report)
    except EngineError as problem:
        report.write({"http": problem.status, "message": problem.message})
        remove(plan["engine"], plan["name"])
        return _REFUSED << 8
    except Terminated:
        remove(plan["engine"], plan["name"])
        return int(signal.SIGTERM)


def remove(engine: str, name: str) -> str | None:
    """Have a container ended and removed, if there is one; what is in the way, if something is."""
    try:
        call(engine, "DELETE", f"/containers/{name}?force=1&v=1", timeout_s=_LOST_S)
    except EngineError as problem:
        return None if problem.status in (404, 409) else problem.message  # gone, or going
    return None


def _enter(plan: dict[str, Any], listener: socket.socket, wake: int) -> socket.socket:
    """Make and start the container; the line to its first process, which has the log and may begin."""
    engine, name = plan["engine"], plan["name"]
    try:  # a SIGTERM meanwhile is seen afterwards: what is being made could not be removed yet
        call(engine, "POST", f"/containers/create?name={name}", plan["create"])
    except EngineError as problem:
        if problem.status != 409 or "in use" not in problem.message:
            raise
        remove(engine, name)  # an agent that was killed had it made
        call(engine, "POST", f"/containers/create?name={name}", plan["create"])
    line = _first_line(engine, name, listener, wake)
    socket.send_fds(line, [b"g"], [1])
    return line


def _first_line(engine: str, name: str, listener: socket.socket, wake: int) -> socket.socket:
    """Start the container and wait for its first process, which may be there before the engine has answered."""
    if select.select([wake], [], [], 0)[0]:
        raise Terminated
    asked = Call(engine, "POST", f"/containers/{name}/start")
    started, deadline = False, time.monotonic() + ENGINE_S
    while True:
        watched: list[Any] = [listener, asked, wake]
        ready = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
        if listener in ready:
            return listener.accept()[0]
        if wake in ready:
            raise Terminated
        if asked not in ready:
            raise EngineError(0, f"it did not start the container within {ENGINE_S:g} s")
        if not asked.read():
            continue
        if started:  # the answer to "wait": it has ended
            raise EngineError(400, f"the container ended before the script began{_exit_of(asked)}")
        asked.result()
        asked, started = Call(engine, "POST", f"/containers/{name}/wait"), True


def _exit_of(asked: Call) -> str:
    try:
        return f", with exit code {asked.result()['StatusCode']}"
    except (EngineError, KeyError, TypeError):  # it is removed already
        return ""


def _follow(line: socket.socket, wake: int, plan: dict[str, Any], report: _Report) -> int:
    """Send SIGTERM on and collect what the first process tells, to its end."""
    said = b""
    both: list[Any] = [line, wake]
    while True:
        ready = select.select(both, [], [])[0]
        if wake in ready:
            os.read(wake, 64)
            _send(line, b"T")
        if line not in ready:
            continue
        try:
            data = line.recv(4096)
        except OSError:
            data = b""
        said += data
        *lines, said = said.split(b"\n")
        for word, *numbers in (text.split() for text in lines):
            if word == b"error":
                report.write({"errno": int(numbers[0])})
                return 127 << 8
            if word == b"ended":
                status, peak_kib, kills, stopped = map(int, numbers)
                entry = {"status": status, "peak_memory_bytes": peak_kib * 1024, "oom_kills": kills}
                report.write({**entry, "stopped": bool(stopped)})
                return status
        if not data:
            report.write({"lost": True, "oom": _was_oom(plan)})
            return int(signal.SIGKILL)


def _was_oom(plan: dict[str, Any]) -> bool:
    """True when the engine still knows the container and saw its memory limit end it."""
    try:
        state = call(plan["engine"], "GET", f"/containers/{plan['name']}/json", timeout_s=_LOST_S)["State"]
        return bool(state.get("OOMKilled"))
    except (EngineError, KeyError, TypeError, AttributeError):
        return False


def _send(line: socket.socket, order: bytes) -> None:
    try:
        line.sendall(order)
    except OSError:  # it has ended, which the next look tells
        pass


class _Report:
    """The report's file, whose room is taken at once."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(self._fd, b" " * REPORT_BYTES)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def write(self, said: dict[str, Any]) -> None:
        text = json.dumps(said).encode()
        if len(text) > REPORT_BYTES:
            text = json.dumps({**said, "message": said["message"][: REPORT_BYTES // 8]}).encode()
        with contextlib.suppress(OSError):  # then the exit status alone tells
            os.pwrite(self._fd, text, 0)


def _remove_file(name: str) -> None:
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass


def _wake_on_terminate() -> int:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(write)
    return read


def _spare_from_oom_killer() -> None:
    """The keeper made this process a victim of choice, as it does every rank; here that is the container's script."""
    try:
        with open("/proc/self/oom_score_adj", "w") as f:
            f.write("0")
    except OSError:  # some sandboxes forbid it
        pass


def end_as(status: int) -> None:
    """End this process the way a process with that wait status ended, without leaving a core file."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pause()
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    _spare_from_oom_killer()
    with open(sys.argv[1], encoding="utf-8") as _f:
        _plan = json.load(_f)
    end_as(hold(_plan))
