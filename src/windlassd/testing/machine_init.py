"""The first process of a machine that is a set of namespaces (``netns.py``); a script, standard library only.

Its only argument is JSON. It forks into namespaces of its own, writes the pid of the first process in them to standard
output once everything is mounted there, and ends when that one does. The first process reaps what its children leave
behind and ends when standard input closes, which the kernel does when whoever made the machine is killed: then
everything on the machine dies with it, and its network goes.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
from typing import Any

_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _BIND, _REC, _PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
_PDEATHSIG = 1
_OWN = ("/tmp/", "/var/tmp/", "/dev/shm/")
"""Folders of which a machine has its own: what it has there under the name of a hidden folder is its own, too."""
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Be a machine until it ends; 0."""
    given = json.loads(sys.argv[1])
    _checked(_libc.unshare(_NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET), "unshare")
    said, tell = os.pipe()
    first = os.fork()
    if not first:
        os.close(said)
        _libc.prctl(_PDEATHSIG, signal.SIGKILL)
        _set_up(given)
        os.write(tell, b"1")
        os.close(tell)
        os.close(1)
        _reap_until_told()
        os._exit(0)
    os.close(tell)
    booted = os.read(said, 1)
    if booted:
        os.write(1, b"%d\n" % first)
    os.close(1)
    os.waitpid(first, 0)
    return 0 if booted else 1


def _set_up(given: dict[str, Any]) -> None:
    socket.sethostname(given["name"])
    _mount("none", "/", "", _REC | _PRIVATE)
    shared = [(path, os.open(path, os.O_PATH)) for path in given["shared"]]
    files = [(os.path.realpath(target), os.open(source, os.O_PATH)) for source, target in given["files"]]
    hidden = [path for path in given["hidden"] if os.path.isdir(path) and not path.startswith(_OWN)]
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV)
    if given["disk_bytes"]:
        _mount("disk", "/tmp", "tmpfs", 0, f"mode=1777,size={given['disk_bytes']}")
    else:
        _mount(given["disk"], "/tmp", "", _BIND)
    for path in ("/dev/shm", "/var/tmp"):
        _mount("own", path, "tmpfs", 0, "mode=1777")
    for path in hidden:
        _mount("nothing", path, "tmpfs", _RDONLY, "size=4k")
    for path, held in shared:
        os.makedirs(path, exist_ok=True)
        _mount(f"/proc/self/fd/{held}", path, "", _BIND)
        os.close(held)
    for path, held in files:
        _mount(f"/proc/self/fd/{held}", path, "", _BIND)
        os.close(held)
    os.makedirs(given["home"], exist_ok=True)


def _reap_until_told() -> None:
    wake, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready and not os.read(0, 4096):
            return


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    _checked(done, f"mount {source} on {target}")


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
