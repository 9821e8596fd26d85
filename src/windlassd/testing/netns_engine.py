"""An engine whose nodes are the machines of ``netns.py``: real distance on one machine, for tests.

The option ``machines`` of a cluster names the file that ``Network.control`` is; ``agent`` is the command of a stand-in
for the agent. A machine has one job at a time. Agents hang on a holder (``netns_holder.py``) for each job, so that they
outlive the server, and die with their machine. What goes on while a machine is cut off the engine cannot know, and the
holder cannot do anything there until it is healed: the pipes of this one machine must not help where a network would
not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inotify_simple import INotify, flags

from windlass.errors import ComputeTargetException
from windlass.specs._codec import known_fields, to_wire
from windlass.specs.cluster import ClusterSpec
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason
from windlassd.compute.base import (
    AgentLink,
    Capacity,
    Feature,
    JobSpec,
    JobState,
    NoCapacity,
    Node,
    NodeStatus,
    Phase,
    Plan,
    Target,
    agent_of,
    on_node,
)
from windlassd.testing.netns import nsenter

log = logging.getLogger(__name__)
_HOLDER = Path(__file__).with_name("netns_holder.py")
_AGENT = (sys.executable, "-m", "windlassd.agent", "--elsewhere")
_GRACE_S = 20.0
"""For an agent to end its processes and to bring home what there is, once its place was taken."""


@dataclass(frozen=True)
class _Machine:
    """A machine as the control file has it. ``init`` is None while it is down."""

    name: str
    address: str
    init: int | None
    gpus: int = 0
    cut: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Job:
    """A job that has machines. ``line`` leads to its holder while any of its agents is there."""

    spec: JobSpec
    control: Path
    nodes: tuple[str, ...]
    line: socket.socket | None = None
    exits: dict[int, int] = field(default_factory=dict)
    attached: bool = False
    untold: set[int] = field(default_factory=set)
    """Ranks whose agents are to end, and cannot be told so yet."""


class NetnsEngine:
    """The engine ``netns``."""

    name = "netns"
    elsewhere = True

    def __init__(self, link: AgentLink) -> None:
        self._link = link
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._freed: dict[str, _Job] = {}
        """Jobs that have ended, until their agents are gone."""
        self._machines: dict[Path, Mapping[str, _Machine]] = {}
        self._targets: dict[tuple[Path, int], Target] = {}
        self._watch = _Watch(self._changed)

    def unsupported(self, job: JobSpec) -> Mapping[Feature, str]:
        """All that the agent can do is fine."""
        return {}

    def plan(self, job: JobSpec) -> Plan:
        """What would be started."""
        script = job.launch.script or " ".join(job.launch.command)
        steps = (
            f"take {job.node_count} machine(s) of {_control_of(job.cluster)} for {job.cluster.name}",
            f"start an agent on each that runs {script}",
        )
        return Plan(self.name, job, steps)

    def submit(self, plan: Plan) -> str:
        """Take machines, and start the agents there through a holder."""
        job, control = plan.job, _control_of(plan.job.cluster)
        with self._lock:
            if job.native_id in self._jobs:
                return job.native_id
            machines = self._known(control)
            free = self._free(job.cluster)
            if len(free) < job.node_count:
                raise NoCapacity(f"{job.cluster.name} has {len(free)} of {job.node_count} nodes free.")
            chosen = [machines[name] for name in free[: job.node_count]]
            held = self._jobs[job.native_id] = _Job(job, control, tuple(m.name for m in chosen))
        try:
            self._start(held, chosen)
        except BaseException:
            with self._lock:
                del self._jobs[job.native_id]
            raise
        return job.native_id

    def reattach(self, job: JobSpec, nodes: Sequence[str], started: bool) -> str:
        """Take the job's holder over; without one its agents are gone."""
        held = _Job(job, _control_of(job.cluster), tuple(nodes))
        with self._lock:
            machines = self._known(held.control)
            self._jobs[job.native_id] = held
        for rank, launch in enumerate(self._launches(held, [machines.get(name) for name in nodes])):
            self._link.adopt(agent_of(job.launch, rank), launch, started)
        self._connect(held)
        return job.native_id

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Running, or lost when an agent is gone that did not end as it should."""
        with self._lock:
            return {i: self._state(self._jobs[i]) for i in ids if i in self._jobs}

    def cancel(self, native_id: str, reason: Reason) -> None:
        """Tell the agents over their lines."""
        with self._lock:
            held = self._jobs.get(native_id)
        if held:
            launch = held.spec.launch
            for rank in range(len(held.nodes)):
                self._link.stop(agent_of(launch, rank), launch.run_id, launch.attempt, reason)

    def ended(self, native_id: str) -> None:
        """Free the machines; their agents are told to end."""
        with self._lock:
            held = self._jobs.pop(native_id, None)
            if held is None:
                return
            self._freed[native_id] = held
            held.untold = set(range(len(held.nodes))) - set(held.exits)
            self._tell_to_end(held)
            gone = held.line is None
        if gone:
            self._forget(held)

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        """The machines that the cluster has or may take now."""
        by_status = [node.status for node in self.nodes(cluster)]
        idle, busy = by_status.count(NodeStatus.IDLE), by_status.count(NodeStatus.RUNNING)
        unusable = by_status.count(NodeStatus.UNUSABLE)
        return Capacity(max(cluster.max_nodes, 0), idle + busy + unusable, idle, busy, unusable=unusable)

    def nodes(self, cluster: ClusterSpec) -> Sequence[Node]:
        """Its jobs' machines, then free ones, then those that cannot be used; no more than it may have."""
        with self._lock:
            machines = self._known(_control_of(cluster))
            jobs = [job for job in self._jobs.values() if job.spec.cluster.name == cluster.name]
            found = [self._node(machines, name, job) for job in jobs for name in job.nodes]
            found += [self._node(machines, name) for name in self._free(cluster)]
            broken = [name for name in machines if self._unusable(_control_of(cluster), machines[name])]
            room = max(0, cluster.max_nodes - len(found))
            taken = {name for job in self._jobs.values() for name in job.nodes}
            unusable = [name for name in broken if name not in taken][:room]
            return [*found, *(Node(name, NodeStatus.UNUSABLE, machines[name].address) for name in unusable)]

    def pool(self, cluster: ClusterSpec) -> str:
        """Clusters of one control file share its machines."""
        return f"{self.name}:{_control_of(cluster)}"

    def target(self, cluster: ClusterSpec) -> Target | None:
        """What an agent says of the first machine that is up; all are alike."""
        control = _control_of(cluster)
        with self._lock:
            up = next((m for m in self._known(control).values() if m.init), None)
            known = self._targets.get((control, up.init)) if up and up.init else None
        if known:
            return known
        if up is None or up.init is None:
            raise ComputeTargetException(f"No machine of {control} is up.")
        words = [*nsenter(up.init), sys.executable, "-m", "windlassd.agent", "--facts"]
        done = subprocess.run(words, env=dict(up.variables), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            raise ComputeTargetException(f"{up.name} cannot say what it is: {done.stderr.decode(errors='replace')}")
        told = json.loads(done.stdout)
        found = Target(told["platform"], told["pythons"], bool(up.gpus))
        self._targets[control, up.init] = found
        return found

    def adopt(self, cluster: ClusterSpec) -> None:
        """Read the control file."""
        with self._lock:
            self._known(_control_of(cluster))

    def discard(self, cluster: ClusterSpec) -> None:
        """The machines are the test's."""

    def close(self) -> None:
        """Let go of the holders, which go on."""
        self._watch.close()
        with self._lock:
            for held in (*self._jobs.values(), *self._freed.values()):
                if held.line:
                    held.line.close()

    def _start(self, held: _Job, machines: Sequence[_Machine]) -> None:
        launch = held.spec.launch
        parts = []
        log_of = held.control.parent / "agents"
        log_of.mkdir(exist_ok=True)
        for rank, (machine, own) in enumerate(zip(machines, self._launches(held, machines), strict=True)):
            agent = agent_of(launch, rank)
            ticket = json.dumps(to_wire(self._link.enlist(agent, launch.run_id, machine.address)))
            self._link.start(agent, own)
            words = held.spec.cluster.options.get("agent", _AGENT)
            parts.append({
                "command": [*nsenter(machine.init or 0), *words], "variables": dict(machine.variables),
                "ticket": ticket, "log": str(log_of / f"{agent}.log"),
            })  # fmt: skip
        holder = subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", str(_HOLDER), str(_door(held))], stdin=subprocess.PIPE,
            env={"PATH": os.defpath},
        )  # fmt: skip
        assert holder.stdin is not None
        with holder.stdin:
            holder.stdin.write(json.dumps({"parts": parts, "grace_s": _GRACE_S}).encode() + b"\n")
        holder.wait()  # it went into the background, where it can be reached now
        self._connect(held)

    def _launches(self, held: _Job, machines: Sequence[_Machine | None]) -> Sequence[LaunchSpec]:
        addresses = [machine.address if machine else "" for machine in machines]
        return [
            on_node(held.spec.launch, held.nodes, rank, _variables(held.spec, machine), addresses)
            for rank, machine in enumerate(machines)
        ]

    def _connect(self, held: _Job) -> None:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(_door(held)))
        except OSError:  # no holder: its agents are gone
            line.close()
            with self._lock:
                held.attached = True
            return
        with self._lock:
            held.line, held.attached = line, True
        self._watch.line(line, lambda said: self._hear(held, said))

    def _hear(self, held: _Job, said: bytes) -> None:
        """The holder says who exited; nothing when it has gone itself."""
        with self._lock:
            for line in said.splitlines():
                told = json.loads(line)
                held.exits[told["exited"]] = told["code"]
                held.untold.discard(told["exited"])
            if not said and held.line:
                held.line.close()
                held.line = None
        if not said and self._freed.get(held.spec.native_id) is held:
            self._forget(held)
        self._link.changed(self.name)

    def _forget(self, held: _Job) -> None:
        with self._lock:
            self._freed.pop(held.spec.native_id, None)
        for rank in range(len(held.nodes)):
            self._link.dismiss(agent_of(held.spec.launch, rank))

    def _tell_to_end(self, held: _Job) -> None:
        machines = self._known(held.control)
        if held.line is None:
            held.untold.clear()
            return
        for rank in sorted(held.untold):
            machine = machines.get(held.nodes[rank])
            if machine is None or not machine.cut:
                held.untold.discard(rank)
                try:
                    held.line.sendall(f"end {rank}\n".encode())
                except OSError:  # it has gone, which is heard next
                    pass

    def _state(self, held: _Job) -> JobState:
        bad = {rank: code for rank, code in held.exits.items() if code}
        if bad:
            rank, code = next(iter(bad.items()))
            up = self._known(held.control).get(held.nodes[rank])
            words = f"The agent on {held.nodes[rank]} has ended ({code})."
            return JobState(Phase.LOST, held.nodes, words if up and up.init else f"{held.nodes[rank]} is gone.")
        if held.attached and held.line is None and len(held.exits) < len(held.nodes):
            return JobState(Phase.LOST, held.nodes, "The agents' holder is gone, and they with it.")
        return JobState(Phase.RUNNING, held.nodes)

    def _node(self, machines: Mapping[str, _Machine], name: str, held: _Job | None = None) -> Node:
        machine = machines.get(name)
        gpus = _gpus(held.spec, machine) if held else ()
        status = NodeStatus.RUNNING if held else NodeStatus.IDLE
        run_id = held.spec.launch.run_id if held else None
        return Node(name, status, machine.address if machine else None, run_id, gpus)

    def _free(self, cluster: ClusterSpec) -> Sequence[str]:
        control = _control_of(cluster)
        held = [job for job in self._jobs.values() if job.control == control]
        taken = {name for job in held for name in job.nodes}
        own = sum(len(job.nodes) for job in held if job.spec.cluster.name == cluster.name)
        free = [
            name for name, machine in self._known(control).items()
            if name not in taken and not self._unusable(control, machine)
        ]  # fmt: skip
        return free[: max(0, cluster.max_nodes - own)]

    def _unusable(self, control: Path, machine: _Machine) -> bool:
        """Down, or an agent is there that could not be told to end."""
        fenced = {job.nodes[rank] for job in self._freed.values() if job.control == control for rank in job.untold}
        return machine.init is None or machine.name in fenced

    def _known(self, control: Path) -> Mapping[str, _Machine]:
        """The machines of a control file, which is watched from now on."""
        if control not in self._machines:
            self._machines[control] = self._read(control)
            self._watch.folder(control.parent)
        return self._machines[control]

    def _read(self, control: Path) -> Mapping[str, _Machine]:
        try:
            told = json.loads(control.read_text())["machines"]
        except (OSError, ValueError, KeyError) as problem:
            raise ComputeTargetException(
                f"The option machines={str(control)!r} must be the file of a test's Network: {problem!r}"
            ) from problem
        found = [_Machine(**known_fields(_Machine, entry)) for entry in told]
        dead = self._watch.processes([machine.init for machine in found if machine.init])
        return {m.name: _down(m) if m.init in dead else m for m in found}

    def _changed(self, folder: Path | None, dead: int | None) -> None:
        """A control file was written, or the first process of a machine has died."""
        with self._lock:
            for control, machines in list(self._machines.items()):
                if control.parent == folder and control.exists():
                    self._machines[control] = self._read(control)
                if dead is not None:
                    gone = {name: _down(m) if m.init == dead else m for name, m in machines.items()}
                    self._machines[control] = gone
            for held in self._freed.values():
                self._tell_to_end(held)
        self._link.changed(self.name)


class _Watch(threading.Thread):
    """Waits for control files, machines and holders at once, on a thread of its own."""

    def __init__(self, changed: Callable[[Path | None, int | None], None]) -> None:
        super().__init__(name="netns", daemon=True)
        self._changed = changed
        self._selector = selectors.DefaultSelector()
        self._inotify = INotify()
        self._folders: dict[int, Path] = {}
        self._processes: set[int] = set()
        self._wake = os.eventfd(0)
        self._closed = False
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: os.eventfd_read(self._wake))
        self._selector.register(self._inotify.fd, selectors.EVENT_READ, self._read_folders)
        self.start()

    def run(self) -> None:
        """Until it is closed."""
        while not self._closed:
            for key, _ in self._selector.select():
                try:
                    key.data()
                except Exception:  # the edge: a broken file must not end the watch
                    log.exception("the engine netns could not take notice of a change")
        self._inotify.close()

    def folder(self, path: Path) -> None:
        """Tell of files that are moved there."""
        self._folders[self._inotify.add_watch(path, flags.MOVED_TO)] = path

    def processes(self, pids: Sequence[int]) -> Collection[int]:
        """Tell when one of them has died; returns those that already have."""
        dead = set()
        for pid in set(pids) - self._processes:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                dead.add(pid)
                continue
            self._processes.add(pid)
            self._register(fd, functools.partial(self._died, fd, pid))
        return dead

    def line(self, line: socket.socket, hear: Callable[[bytes], None]) -> None:
        """Hand on what is said on it, whole lines; nothing, once, when it ends."""
        kept = bytearray()

        def read() -> None:
            try:
                said = line.recv(1 << 16)
            except OSError:
                said = b""
            if not said:
                self._selector.unregister(line)
                hear(b"")
                return
            kept.extend(said)
            whole = kept.rfind(b"\n") + 1
            if whole:
                told = bytes(kept[:whole])
                del kept[:whole]
                hear(told)

        self._register(line, read)

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        os.eventfd_write(self._wake, 1)
        self.join()

    def _register(self, file: int | socket.socket, act: Callable[[], object]) -> None:
        self._selector.register(file, selectors.EVENT_READ, act)
        os.eventfd_write(self._wake, 1)

    def _read_folders(self) -> None:
        for folder in {self._folders[event.wd] for event in self._inotify.read(timeout=0) if event.wd in self._folders}:
            self._changed(folder, None)

    def _died(self, fd: int, pid: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        self._processes.discard(pid)
        self._changed(None, pid)


def _control_of(cluster: ClusterSpec) -> Path:
    given = cluster.options.get("machines")
    if not isinstance(given, str):
        raise ComputeTargetException(
            f"The cluster {cluster.name!r} of the engine netns needs the option machines: the file of a test's Network."
        )
    return Path(given)


def _door(held: _Job) -> Path:
    """The socket of a job's holder; its name is short, as sockets' must be."""
    name = hashlib.sha256(held.spec.native_id.encode()).hexdigest()[:12]
    return held.control.parent / f"job-{name}"


def _gpus(job: JobSpec, machine: _Machine | None) -> Sequence[int]:
    """The indices of the GPUs that the job gets on a machine: as many as it asks for, else all."""
    there = machine.gpus if machine else 0
    asked = job.cluster.node_resources.get("GPU", job.cluster.gpus)
    return range(there if asked is None else min(int(asked), there))


def _variables(job: JobSpec, machine: _Machine | None) -> Mapping[str, str]:
    if machine is None or not machine.gpus:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, _gpus(job, machine)))}


def _down(machine: _Machine) -> _Machine:
    return _Machine(machine.name, machine.address, None, machine.gpus, machine.cut, machine.variables)
