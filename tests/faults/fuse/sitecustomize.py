"""Loaded by every interpreter of a fused home (``faults.fuses``): gives its agents a fuse, and their keepers one.

The start order of a run carries the fuse in the variable FUSE. From then on the lines that the agent executes for any
run are counted, in all its threads; at the line, call or return that the fuse names, the victims are killed.
"""

import json
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))


class Fuse:
    """Counts, and kills once."""

    def __init__(self, victims):
        self._victims = victims  # gives the pids of a role
        self._lock = threading.Lock()
        self.wanted = {}
        self.count = 0

    def arm(self, text, role):
        wanted = json.loads(text) if text else {}
        if wanted.get("role") == role and not os.path.exists(wanted["blown"]):
            self.wanted, self.count = wanted, 0

    def trace(self, frame, event, arg):
        """Count a line, or a call or return of a function."""
        if not self.wanted:
            return
        where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_name}:{event}"
        with self._lock:
            self.count += event == "line"
            if self.wanted and (where == self.wanted.get("at") or self.count == self.wanted.get("line")):
                self._blow()

    def report(self):
        if self.wanted.get("report"):
            with open(self.wanted["report"], "w") as f:
                f.write(str(self.count))

    def _blow(self):
        wanted, self.wanted = self.wanted, {}
        os.close(os.open(wanted["blown"], os.O_CREAT | os.O_EXCL))
        for pid in [pid for role in wanted["victims"] for pid in self._victims(role)]:
            try:
                os.kill(pid, wanted["signal"])
            except ProcessLookupError:
                pass


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(child) for child in f.read().split()]
    except OSError:
        return []


def victims_of_agent(role):
    """Pids by role, seen from the agent."""
    nurseries = [pid for pid in every_child() if b"keeper" in cmdline(pid)]
    keepers = [keeper for nursery in nurseries for keeper in children(nursery)]
    if role == "server":
        with open(os.path.join(sys.argv[sys.argv.index("--workspace-dir") + 1], "server", "server.json")) as f:
            return [json.load(f)["pid"]]
    scripts = [rank for keeper in keepers for rank in children(keeper)]
    return {"agent": [os.getpid()], "nursery": nurseries, "keeper": keepers, "script": scripts}[role]


def every_child():
    return [child for thread in os.listdir("/proc/self/task") for child in thread_children(thread)]


def thread_children(thread):
    try:
        with open(f"/proc/self/task/{thread}/children") as f:
            return [int(child) for child in f.read().split()]
    except OSError:
        return []


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return b""


def fuse_agent():
    from windlassd.agent import keeper

    os.environ["FUSE_KEEPER"] = keeper.__file__
    keeper.__file__ = os.path.join(HERE, "keeper", "windlassd", "agent", "keeper.py")
    fuse = Fuse(victims_of_agent)

    def local(frame, event, arg):
        fuse.trace(frame, event, arg)
        if event == "return" and frame.f_code.co_name == "_ended":
            fuse.report()
        return local

    def trace(frame, event, arg):
        name = frame.f_code.co_filename
        if "/windlassd/agent/" not in name and "/windlassd/blobs/" not in name:
            return None
        if frame.f_code.co_name == "_start" and name.endswith("agent.py"):
            fuse.arm(frame.f_locals["order"]["environment_variables"].get("FUSE"), "agent")
        return local(frame, event, arg)

    threading.settrace(trace)


if "windlassd.agent" in sys.orig_argv:
    fuse_agent()
