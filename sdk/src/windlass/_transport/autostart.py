"""Start a workspace's server when none runs. Two racing starters give one server."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import IO, Dict, List, Optional

from windlass import settings
from windlass._transport.places import interpreter_file, private_dir, server_dir, socket_path
from windlass.errors import ServiceUnavailable, UserErrorException

try:
    import fcntl
except ImportError:  # Windows: clients of a team server only
    fcntl = None  # type: ignore[assignment]

TRY_AGAIN = 75
"""Exit code of a server that found another's lock: that one is about to serve, or to end."""
READY, PATIENCE = b"1", b"2"
"""What a starting server tells its starter: that it serves, and before, that it has its records to upgrade."""
_END_S = 10.0
_QUIET_S = 3.0
_LOOK_AGAIN_S = 0.05
_AGENTS_PART = ("the agent did not start it", "the agent of this job, which passes calls on, is gone")
_started: "List[int]" = []
"""Pids of the servers that this process started; those that have ended are reaped when the next one is started."""
_STRIPPED = ("PYTHON", "VIRTUAL_ENV", "AZUREML_", "WINDLASS_WORKSPACE_DIR", "WINDLASS_SPOOL_DIR")


def connect(workspace: str) -> socket.socket:
    """A connected socket to the workspace's server.

    Raises:
        OSError: nobody listens there (``FileNotFoundError``, ``ConnectionRefusedError``) or the path is unusable.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise UserErrorException("A local workspace needs Linux or macOS; here, use one with a team server.")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(socket_path(workspace))
    except OSError:
        sock.close()
        raise
    return sock


def is_running(workspace: str) -> bool:
    """True when a server accepts connections for the workspace."""
    try:
        connect(workspace).close()
    except OSError:
        return False
    return True


def ensure_server(workspace: str) -> None:
    """Return when the workspace's server accepts connections, starting it if need be.

    Raises:
        ServiceUnavailable: it does not come up; the message says why, or holds the last lines of its log. Never
            another class: a shipper must take it for an outage and not for the refusal of what it sends.
        UserErrorException: this is a job, and the workspace is not its own.
    """
    if fcntl is None:
        raise UserErrorException("A local workspace needs Linux or macOS; here, use one with a team server.")
    if _leave_to_agent(workspace):
        return
    try:
        folder = _make_folder(workspace)
        with _door(workspace, folder) as door:
            _enter(door, workspace)
            if not is_running(workspace):
                _start(workspace, folder)
    except UserErrorException as e:  # such as a settings file that is being written
        raise ServiceUnavailable(e.message, transient=False) from e
    except OSError as e:  # such as no memory, or too many processes
        raise ServiceUnavailable("The server of %s cannot be started: %s." % (workspace, e)) from e


def why_silent(workspace: str) -> str:
    """What to do about a server that takes connections and does not answer, as the end of a message."""
    try:
        with open(os.path.join(server_dir(workspace), "server.json"), encoding="utf-8") as f:
            pid = int(json.load(f)["pid"])
        with open("/proc/%d/stat" % pid, "rb") as stat:
            state = stat.read().rpartition(b")")[2].split()[0]
    except (OSError, ValueError, KeyError, TypeError):
        return " See `windlass server status`."
    if state in (b"T", b"t"):
        return " Its process %d was stopped (SIGSTOP, or a debugger); continue it with `kill -CONT %d`." % (pid, pid)
    return " Its process is %d; see its log, %s." % (pid, os.path.join(server_dir(workspace), "server.log"))


def _leave_to_agent(workspace: str) -> bool:
    """In a job, wait for its agent to start its workspace's server; True when that runs.

    What a job starts ends with the job: a server must not be among it.
    """
    job = settings.job_context()
    if settings.elsewhere() and (job is None or os.path.abspath(job.workspace_dir) != os.path.abspath(workspace)):
        raise UserErrorException(
            "The server of the workspace %s is not on this machine, and none can be started here: a job on a node of "
            "another machine reaches the workspace it was submitted to, and no other." % os.path.basename(workspace)
        )
    if job is None:
        return False
    if os.path.abspath(job.workspace_dir) != os.path.abspath(workspace):
        raise UserErrorException(
            "The server of the workspace %s does not run, and a job cannot start it: it would end with the job. Start "
            "it outside, with `windlass -w %s server start`." % (workspace, os.path.basename(workspace))
        )
    deadline = time.monotonic() + settings.get("server_start_timeout_s")
    while not is_running(workspace):
        if time.monotonic() > deadline:
            why = _AGENTS_PART[settings.elsewhere()]
            raise ServiceUnavailable("The server of %s is away, and %s." % (workspace, why))
        time.sleep(_LOOK_AGAIN_S)
    return True


def _make_folder(workspace: str) -> str:
    try:
        private_dir(settings.home())
        private_dir(workspace)
        return private_dir(server_dir(workspace))
    except OSError as e:
        raise _unwritable(workspace, e) from e


def _door(workspace: str, folder: str) -> "IO[str]":
    """The file whose lock lets one starter in at a time."""
    try:
        return open(os.path.join(folder, "start.lock"), "a")
    except OSError as e:
        raise _unwritable(workspace, e) from e


def _enter(door: "IO[str]", workspace: str) -> None:
    """Hold the door's lock; says what it waits for when that takes long, as the upgrade of big records does."""
    try:
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        words = "windlass: waiting for the server of %s, which another process is starting.\n" % workspace
    talk = threading.Timer(_QUIET_S, sys.stderr.write, (words,))
    talk.daemon = True
    talk.start()
    try:
        fcntl.flock(door, fcntl.LOCK_EX)
    finally:
        talk.cancel()


def _unwritable(workspace: str, problem: OSError) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The workspace folder %s cannot be written: %s. Set WINDLASS_HOME to a folder you can write."
        % (workspace, problem),
        transient=False,
    )


def _start(workspace: str, folder: str) -> None:
    python, timeout_s = server_interpreter(), settings.get("server_start_timeout_s")
    log_path = os.path.join(folder, "server.log")
    ready_read, ready_write = os.pipe()
    environment = server_environment()
    try:
        with open(log_path, "ab") as log:
            said_before = log.tell()
            child = subprocess.Popen(
                [python, "-m", "windlassd", "serve", "--workspace-dir", workspace, "--ready-fd", str(ready_write)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=settings.home(), env=environment,
                pass_fds=(ready_write,), start_new_session=True,
            )  # fmt: skip
    finally:
        os.close(ready_write)
    try:
        word = _word(ready_read, timeout_s)
        if word == PATIENCE:  # killed for its slowness, it would begin anew at each start
            sys.stderr.write(
                "windlass: the records of %s are upgraded to this version of Windlass; this happens once and takes "
                "about as long as copying them.\n" % workspace
            )
            word = _word(ready_read, None)
        if word:
            child.returncode = 0  # it lives on without us; keep subprocess from warning about that
            _started[:] = [pid for pid in _started if not _reaped(pid)] + [child.pid]
            return
    finally:
        os.close(ready_read)
    if is_running(workspace):  # another's, started by hand; ours ends by itself
        child.returncode = 0
        _started.append(child.pid)
        return
    try:
        child.wait(0 if word is None else _END_S)  # else it closed its end of the pipe, so it is ending
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        said = _last_lines(log_path, said_before)
        raise ServiceUnavailable("The server of %s did not come up in %g s.%s" % (workspace, timeout_s, said)) from None
    raise _why_ended(workspace, python, child.returncode, _last_lines(log_path, said_before))


def _why_ended(workspace: str, python: str, code: int, said: str) -> ServiceUnavailable:
    """What there is to say of a server that ended while it started."""
    if said.strip().splitlines()[-1:] and "windlassd: " in said:  # it says itself what the user can do
        words = said[said.rindex("windlassd: ") + len("windlassd: ") :].strip()
        return ServiceUnavailable(words, transient=code == TRY_AGAIN)
    if "No module named windlassd" in said:
        return ServiceUnavailable(
            "%s, which %s names, has no Windlass server. Run `windlass init` with the Python that has it."
            % (python, interpreter_file()),
            transient=False,
        )
    return ServiceUnavailable(
        "The server of %s ended while starting (exit code %d).%s" % (workspace, code, said),
        transient=code < 0,  # somebody killed it: the next try may do
    )


def _word(pipe: int, timeout_s: Optional[float]) -> Optional[bytes]:
    """A byte that the server wrote, an empty one when it closed the pipe, None when it did neither in time."""
    return os.read(pipe, 1) if select.select([pipe], [], [], timeout_s)[0] else None


def server_environment() -> "Dict[str, str]":
    """The variables of a process of the server's kind: this home's, and nothing of the job or Python that starts it."""
    environment = settings.child_environment(_STRIPPED)
    environment[settings.HOME_VARIABLE] = settings.home()
    return environment


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # after fork it is our parent's
        return True


def _last_lines(path: str, start: int, count: int = 8) -> str:
    """The last lines that were written after ``start``, with the path, as the end of a message."""
    try:
        with open(path, "rb") as f:
            f.seek(max(start, os.path.getsize(path) - 8192))
            lines = f.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return ""
    return " Its log (%s) ends with:\n  %s" % (path, "\n  ".join(lines)) if lines else ""


def server_interpreter() -> str:
    """The interpreter that this home's servers run on.

    It stands in ``interpreter.json`` of the home, never merely in ``sys.executable``: a job on Python 3.7 must start
    the same server as the shell. Where nothing (or a deleted interpreter) stands there, this process's own is
    recorded if it has ``windlassd``.
    """
    recorded = recorded_interpreter()
    if recorded:
        return recorded
    if not record_interpreter():
        raise ServiceUnavailable(
            "No Windlass server is installed for the home %s (looked in %s). Install it with `pip install windlass` "
            "on Python 3.11 or newer and run `windlass init` there once." % (settings.home(), interpreter_file()),
            transient=False,
        )
    return sys.executable


def record_interpreter() -> bool:
    """Record this process's interpreter as the home's if it has ``windlassd``; False when it has not."""
    import importlib.util

    if sys.version_info < (3, 11) or not sys.executable or importlib.util.find_spec("windlassd") is None:
        return False
    private_dir(settings.home())
    path = interpreter_file()
    beside = "%s.%d" % (path, os.getpid())
    with open(beside, "w", encoding="utf-8") as f:
        json.dump({"python": sys.executable}, f)
    os.replace(beside, path)
    return True


def recorded_interpreter() -> Optional[str]:
    """The interpreter that stands in the home and can be started, or None."""
    try:
        with open(interpreter_file(), encoding="utf-8") as f:
            python = json.load(f)["python"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return python if isinstance(python, str) and os.access(python, os.X_OK) else None
