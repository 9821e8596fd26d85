"""Somebody's Ray cluster as machines: Ray places agents, everything else is Windlass's.

A job of n nodes is one placement group (STRICT_SPREAD, detached, named by the job) and in each of its bundles one
detached actor that starts an agent and keeps its standard input open. Who else uses the cluster is left alone: a node
of a job is a share of a machine, the cluster's ``node_resources``. Ray has no order of its own between those who wait,
so a group is only asked for when its nodes are free, or when Ray's autoscaler may add some.

This process never imports Ray: a driver process speaks to it (``_ray_driver.py``), one for each address.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from windlass import settings
from windlass.errors import AzureMLException, ComputeTargetException
from windlass.specs import vm_sizes
from windlass.specs._codec import to_wire
from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason
from windlassd.compute import _ray_slots as slots
from windlassd.compute._ray_cluster import RayCluster
from windlassd.compute._ray_line import Way
from windlassd.compute._ray_slots import RayMachine, Resources
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
    lacks_launcher,
    on_node,
)

OWNER = "machines_of"
"""Option of a cluster on the machines of an attached one: that one's name."""
_OPTIONS = ("address", "python", "agent_python", OWNER)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):\d{1,5}\Z")
_GRACE_S = 20.0
"""For an agent to bring home what there is, once its place was taken."""
_SETTLED_S = 20.0
"""After its start a server knows which jobs of an earlier one go on; what it does not know of by then is ended."""
_PATIENCE_S = 1800.0
"""For the nodes of a job that Ray was asked for, since there was last any progress."""


@dataclass
class _Job:
    spec: JobSpec
    need: Resources
    cluster: RayCluster
    phase: Phase = Phase.PENDING
    message: str = ""
    nodes: tuple[str, ...] = ()
    bundles: Sequence[Mapping[str, Any]] = ()
    """By rank, once Ray has placed them: ``node``, ``address``, ``gpus``, ``number``."""
    parts: dict[int, str] = field(default_factory=dict)
    """Rank → what became of its agent."""
    notes: tuple[str, ...] = ()
    asked_at: float = field(default_factory=time.monotonic)
    freed_at: float = 0.0
    dismissed: bool = False

    @property
    def width(self) -> int:
        """Nodes that it has or is to have."""
        return self.spec.node_count


class RayEngine:
    """The engine ``ray``."""

    name = "ray"
    elsewhere = True

    def __init__(self, link: AgentLink, settled_s: float = _SETTLED_S, patience_s: float = _PATIENCE_S) -> None:
        self._link = link
        self._settled_s = settled_s
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._freed: dict[str, _Job] = {}
        """Jobs that have ended, until nothing of them is left in Ray."""
        self._clusters: dict[str, RayCluster] = {}
        self._known: dict[str, ClusterSpec] = {}
        self._used: dict[str, list[float]] = {}
        """Cluster → when each of its nodes that became free was last used."""
        self._asked: dict[str, Any] = {}
        self._swept: set[int] = set()
        self._began = time.monotonic()

    def unsupported(self, job: JobSpec) -> Mapping[Feature, str]:
        """What no machine of the cluster, or too few of them, could ever give."""
        missing = dict(lacks_launcher(job))
        there, need = self._reach(job.cluster), need_of(job.cluster)
        machines = there.machines.values()
        fit = sum(machine.could(need) for machine in machines)
        if machines and not there.autoscaler and fit < job.node_count:
            missing[Feature.NODES] = (
                f"node_count={job.node_count}: of the {len(machines)} machines of the Ray cluster at "
                f"{there.way.address}, {fit} could ever give a node ({slots.words_of(need)}). Ask for fewer nodes, or "
                "for less in node_resources."
            )
        return missing

    def plan(self, job: JobSpec) -> Plan:
        """What would be asked of Ray."""
        launch, need, options = job.launch, need_of(job.cluster), job.cluster.options
        what = (*(launch.command or (launch.python or "<the environment's python>", launch.script)), *launch.arguments)
        cpus, gpus = need.get("CPU", 0), need.get("GPU", 0)
        steps = (
            f"ask Ray at {options.get('address')} for the placement group {job.native_id}: {job.node_count} x "
            f"{{{slots.words_of(need)}}}, STRICT_SPREAD, detached",
            f"start {job.node_count} x a detached actor in it, named {job.native_id}#N, with num_cpus={cpus:g}, "
            f"num_gpus={gpus:g}, max_restarts=0",
            f"in each: {options.get('agent_python') or '<the python of Ray>'} -m windlassd.agent --elsewhere, with a "
            "ticket on its standard input",
            f"on each node: fetch snapshot {launch.snapshot_id[:12]}, make the environment",
            " ".join(["start", *what]),
        )
        return Plan(self.name, job, steps)

    def submit(self, plan: Plan) -> str:
        """Ask Ray for the nodes, when they are free or may be added; agents start once it has given them."""
        job = plan.job
        need = need_of(job.cluster)
        with self._lock:
            if job.native_id in self._jobs:
                return job.native_id
            there = self._reach(job.cluster)
            self._refuse_full(job, there, need)
            held = self._jobs[job.native_id] = _Job(job, need, there)
            self._place(held)
        return job.native_id

    def reattach(self, job: JobSpec, nodes: Sequence[str], started: bool) -> str:
        """Find the job's group and actors again; until that is done it counts as running."""
        with self._lock:
            there = self._reach(job.cluster)
            held = _Job(job, need_of(job.cluster), there, Phase.RUNNING, nodes=tuple(nodes))
            self._jobs[job.native_id] = held
            self._freed.pop(job.native_id, None)
            if started:
                for rank in range(len(nodes)):
                    self._link.adopt(agent_of(job.launch, rank), on_node(job.launch, nodes, rank, {}), True)
            there.send(do="claim", job=job.native_id, count=job.node_count)
        return job.native_id

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """As Ray has told of them; lost, when the whole cluster was silent for too long."""
        with self._lock:
            return {i: self._state(self._jobs[i]) for i in ids if i in self._jobs}

    def cancel(self, native_id: str, reason: Reason) -> None:
        """Tell the agents. A job that has no nodes yet has ended so."""
        with self._lock:
            held = self._jobs.get(native_id)
            if held is None:
                return
            if held.phase is Phase.PENDING:
                held.phase, held.message = Phase.ENDED, "It was canceled before Ray had given its nodes."
                held.cluster.send(do="free", job=native_id, grace_s=0.0)
                self._link.changed(self.name)
                return
        launch = held.spec.launch
        for rank in range(len(held.nodes)):
            self._link.stop(agent_of(launch, rank), launch.run_id, launch.attempt, reason)

    def ended(self, native_id: str) -> None:
        """Have Ray end what is left of the job: agents, actors, group."""
        with self._lock:
            held = self._jobs.pop(native_id, None)
            if held is None:
                return
            self._freed[native_id] = held
            held.freed_at = time.monotonic()
            self._used.setdefault(held.spec.cluster.name, []).extend([time.monotonic()] * len(held.nodes))
            held.cluster.send(do="free", job=native_id, grace_s=_GRACE_S)

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        """What the cluster has, and how much more fits on the machines as they are used now."""
        found = self.nodes(cluster)
        count = {status: sum(node.status is status for node in found) for status in NodeStatus}
        with self._lock:
            there, busy = self._reach(cluster), count[NodeStatus.RUNNING]
            wanted = sum(job.width for job in self._of(cluster) if job.phase is not Phase.ENDED)
        return Capacity(
            target=max(len(found), min(wanted, cluster.max_nodes), cluster.min_nodes if there.autoscaler else 0),
            current=len(found), idle=count[NodeStatus.IDLE], busy=busy, preparing=count[NodeStatus.PREPARING],
            leaving=count[NodeStatus.LEAVING], unusable=count[NodeStatus.UNUSABLE],
        )  # fmt: skip

    def nodes(self, cluster: ClusterSpec) -> Sequence[Node]:
        """Its jobs' nodes, then shares of machines that are free, then machines that come, leave or cannot be used."""
        need = need_of(cluster)
        with self._lock:
            there = self._reach(cluster)
            likely = self._likely(there)
            found = [n for job in self._of(cluster) for n in self._nodes_of(job, likely.get(job.spec.native_id, ()))]
            room = max(0, cluster.max_nodes - len(found))
            rooms = self._rooms(there, need)
            idle = [
                Node(self._slot(there, machine, number), NodeStatus.IDLE, machine.address, resources=dict(need))
                for machine, many in rooms for number in range(min(many, room))
            ][:room]  # fmt: skip
            found += idle
            rest = [
                Node(machine.name, NodeStatus.UNUSABLE if machine.trouble else NodeStatus.LEAVING, machine.address,
                     message=machine.trouble or "Ray gives it back.")
                for machine in there.machines.values()
                if (machine.trouble or machine.leaving) and slots.RayMachine.could(_sound(machine), need)
            ][: max(0, cluster.max_nodes - len(found))]  # fmt: skip
            found += rest
            coming = min(there.coming, cluster.max_nodes - len(found))
        return [*found, *(Node(f"(coming {number + 1})", NodeStatus.PREPARING) for number in range(coming))]

    def pool(self, cluster: ClusterSpec) -> str:
        """All clusters of one Ray cluster share its machines."""
        return f"{self.name}:{cluster.options.get('address')}"

    def target(self, cluster: ClusterSpec) -> Target | None:
        """What its nodes said when they came."""
        return self._reach(cluster).target()

    def adopt(self, cluster: ClusterSpec) -> None:
        """Reach the cluster's head, compare versions, and ask each node what it is; takes seconds."""
        need = _checked(cluster)
        with self._lock:
            there = self._reach(cluster, anew=True)
        try:
            there.wait(need)
        except ComputeTargetException:
            self._drop_unused(cluster)
            raise
        with self._lock:
            self._known[cluster.name] = cluster
            self._request(there)

    def discard(self, cluster: ClusterSpec) -> None:
        """Ask for no machines on its behalf any more."""
        with self._lock:
            self._known.pop(cluster.name, None)
            self._used.pop(cluster.name, None)
            there = self._clusters.get(str(cluster.options.get("address")))
            if there:
                self._request(there)
        self._drop_unused(cluster)

    def close(self) -> None:
        """End the drivers; groups, actors and agents go on."""
        with self._lock:
            clusters, self._clusters = list(self._clusters.values()), {}
            self._used.clear()  # nobody would tell Ray later that their time is over
            for there in clusters:
                self._request(there)
        for there in clusters:
            there.close()

    # What is asked of Ray

    def _reach(self, cluster: ClusterSpec, anew: bool = False) -> RayCluster:
        """The cluster that ``cluster`` is on; ``anew`` with what its owner says now."""
        options = cluster.options
        address = str(options.get("address"))
        with self._lock:
            known = self._clusters.get(address)
            if known is not None and not anew:
                return known
            way = Way(
                address, agent_python=options.get("agent_python"), namespace=f"windlass-{self._link.workspace_id()}",
                token=self._link.secret(str(options.get(OWNER) or cluster.name)),
                **({"python": str(options["python"])} if options.get("python") else {}),
            )  # fmt: skip
            if known is not None and known.way == way and not known.refused:
                return known
            if known is not None:
                threading.Thread(target=known.close, daemon=True).start()
            there = self._clusters[address] = RayCluster(
                way, came=self._take_up, hear=self._hear, tick=self._tick,
                changed=lambda: self._link.changed(self.name),
            )  # fmt: skip
            for job in (*self._jobs.values(), *self._freed.values()):
                if job.cluster is known:
                    job.cluster = there
            return there

    def _drop_unused(self, cluster: ClusterSpec) -> None:
        address = str(cluster.options.get("address"))
        with self._lock:
            used = [spec for spec in self._known.values() if spec.options.get("address") == address]
            there = self._clusters.get(address)
            held = [job for job in (*self._jobs.values(), *self._freed.values()) if job.cluster is there]
            if there is None or used or held:
                return
            del self._clusters[address]
        there.close()

    def _place(self, held: _Job) -> None:
        held.cluster.send(do="place", job=held.spec.native_id, count=held.width, resources=dict(held.need))

    def _take_up(self, there: RayCluster) -> None:
        """A driver is new: tell it what holds."""
        with self._lock:
            for native_id, held in self._jobs.items():
                if held.cluster is there and held.phase is Phase.PENDING:
                    self._place(held)
                elif held.cluster is there and held.phase is not Phase.ENDED:
                    there.send(do="claim", job=native_id, count=held.width)
            for native_id, held in self._freed.items():
                if held.cluster is there:
                    there.send(do="free", job=native_id, grace_s=_GRACE_S)
            self._asked.pop(there.way.address, None)
            self._request(there)

    def _tick(self, there: RayCluster) -> None:
        with self._lock:
            for gone in self._freed.values():
                if gone.cluster is there and time.monotonic() - gone.freed_at > 2 * _GRACE_S:  # it may never be freed
                    self._dismiss(gone)
            late = self._give_up(there)
            self._request(there)
            if there.up and id(there) not in self._swept and time.monotonic() - self._began > self._settled_s:
                self._swept.add(id(there))
                keep = [i for i, held in (*self._jobs.items(), *self._freed.items()) if held.cluster is there]
                there.send(do="sweep", keep=keep)
        if late:
            self._link.changed(self.name)

    def _give_up(self, there: RayCluster) -> bool:
        """Jobs that wait in Ray for too long are lost, so that others get their turn; whether there were any."""
        since = time.monotonic() - self._patience_s
        late = [
            job for job in self._on(there) if job.phase is Phase.PENDING and max(job.asked_at, there.grew_at) < since
        ]
        for job in late:
            job.phase = Phase.LOST
            job.message = (
                f"Ray did not give it {job.width} machines with {slots.words_of(job.need)} each within "
                f"{self._patience_s / 60:.0f} minutes: {there.problem or _waits(there)}"
            )
            there.send(do="free", job=job.spec.native_id, grace_s=0.0)
        return bool(late)

    def _request(self, there: RayCluster) -> None:
        """Have Ray's autoscaler keep the least number of nodes of each cluster, and those used a moment ago."""
        if not there.up or not there.autoscaler:
            return
        bundles = []
        for spec in self._known.values():
            if spec.options.get("address") == there.way.address:
                bundles += [dict(need_of(spec))] * self._kept(spec)
        if self._asked.get(there.way.address) != bundles:
            self._asked[there.way.address] = bundles
            there.send(do="request", bundles=bundles)

    def _kept(self, spec: ClusterSpec) -> int:
        since = time.monotonic() - spec.idle_seconds_before_scaledown
        fresh = self._used[spec.name] = [at for at in self._used.get(spec.name, []) if at > since]
        busy = sum(len(job.nodes) for job in self._of(spec))
        fresh = fresh[-max(0, spec.max_nodes - busy) :] if spec.max_nodes > busy else []
        return min(spec.max_nodes, max(spec.min_nodes, busy + len(fresh) if fresh else 0))

    # What Ray tells

    def _hear(self, there: RayCluster, said: Mapping[str, Any]) -> None:
        kind, native_id = next(iter(said.items()))
        if kind == "swept":
            return
        with self._lock:
            if kind == "freed" and (gone := self._freed.pop(native_id, None)):
                self._dismiss(gone)
            held = self._jobs.get(native_id)
            if held is None or held.cluster is not there or held.phase is Phase.ENDED:
                return
            if kind == "placed":
                self._placed(held, said["bundles"])
            elif kind == "part":
                self._part(held, said)
            elif kind == "failed":
                held.phase, held.message = Phase.LOST, f"Its nodes could not be had: {said['message']}"
            elif kind == "absent":
                held.phase = Phase.LOST
                held.message = f"Ray at {there.way.address} does not have it: it was started anew, or nodes are lost."
        if kind == "placed":  # tokens go to the disk: whoever asks for a state is not to wait for that
            self._start_all(held)
        self._link.changed(self.name)

    def _dismiss(self, gone: _Job) -> None:
        if not gone.dismissed:
            gone.dismissed = True
            for rank in range(gone.width):
                self._link.dismiss(agent_of(gone.spec.launch, rank))

    def _placed(self, held: _Job, bundles: Sequence[Mapping[str, Any]]) -> None:
        ranked = [{**bundles[number], "number": number} for number in slots.by_rank(bundles)]
        if not held.nodes:
            held.nodes = tuple(self._free_name(held.cluster, bundle["node"], str(bundle["host"])) for bundle in ranked)
        held.bundles, held.phase, held.message = ranked, Phase.RUNNING, ""
        gpus = int(held.need.get("GPU", 0))
        if any(len(bundle["gpus"]) < gpus for bundle in ranked):
            held.notes = (f"Ray handed out fewer than the {gpus} GPUs asked for.",)
        held.parts = {rank: "running" for rank, bundle in enumerate(ranked) if bundle["started"]}

    def _start_all(self, held: _Job) -> None:
        """Give each node its part and the ticket of its agent; those that run already have theirs."""
        launch, addresses = held.spec.launch, [str(bundle["address"]) for bundle in held.bundles]
        for rank, bundle in enumerate(held.bundles):
            if bundle["started"]:
                continue
            agent = agent_of(launch, rank)
            try:
                ticket = self._link.enlist(agent, launch.run_id, addresses[rank])
            except AzureMLException as problem:
                with self._lock:
                    held.phase, held.message = Phase.LOST, problem.message
                return
            self._link.start(agent, on_node(launch, held.nodes, rank, _variables(held, bundle), addresses))
            order = {"job": held.spec.native_id, "bundle": bundle["number"], "ticket": json.dumps(to_wire(ticket))}
            held.cluster.send(do="start", **order)

    def _part(self, held: _Job, said: Mapping[str, Any]) -> None:
        rank = next((r for r, bundle in enumerate(held.bundles) if bundle["number"] == said["bundle"]), None)
        if rank is None:
            return
        held.parts[rank] = said["state"]
        if said["state"] == "lost" and held.phase is not Phase.LOST:
            held.phase, held.message = Phase.LOST, f"{held.nodes[rank]}: {said['message']}"
        elif all(held.parts.get(r) == "ended" for r in range(held.width)):
            held.phase = Phase.ENDED

    # What is counted

    def _state(self, held: _Job) -> JobState:
        there = held.cluster
        silent_s, limit_s = there.silent_s(), settings.steady("node_lost_after_s")
        if held.phase is Phase.RUNNING and silent_s > limit_s:
            return JobState(Phase.LOST, held.nodes, f"For {silent_s:.0f} s: {there.problem}", held.notes)
        message = held.message
        if held.phase is Phase.PENDING:
            message = there.problem or _waits(there)
        elif held.phase is Phase.RUNNING and there.problem:
            message = there.problem
        return JobState(held.phase, held.nodes, message, held.notes)

    def _refuse_full(self, job: JobSpec, there: RayCluster, need: Resources) -> None:
        name, count = job.cluster.name, job.node_count
        if there.problem or not there.up:
            raise NoCapacity(f"{name} has no nodes now: {there.problem or 'its Ray cluster is being reached.'}")
        mine = sum(held.width for held in self._of(job.cluster))
        if mine + count > job.cluster.max_nodes:
            raise NoCapacity(f"{name} has {max(0, job.cluster.max_nodes - mine)} of {count} nodes free.")
        fit = len(self._rooms(there, need))
        if fit < count and not there.autoscaler:
            words = f"{name} has {fit} of {count} machines free ({slots.words_of(need)} on each)"
            raise NoCapacity(words + (": each node of a run is on a machine of its own." if count > 1 else "."))

    def _rooms(self, there: RayCluster, need: Resources) -> Sequence[tuple[RayMachine, int]]:
        """Machines that have room for a node, and for how many."""
        machines, held = there.machines, [*self._holdings(there)]
        for native_id, places in self._likely(there).items():
            held += [(machine, self._jobs[native_id].need) for machine in places]
        taken = slots.taken(held)
        rooms = [(machine, machine.room(taken.get(machine.id, {}), need)) for machine in machines.values()]
        return sorted((room for room in rooms if room[1] > 0), key=lambda room: room[0].name)

    def _holdings(self, there: RayCluster) -> Sequence[slots.Holding]:
        found = []
        for job in self._on(there):
            if job.bundles:
                found += [(str(bundle["node"]), job.need) for bundle in job.bundles]
            else:  # of an earlier server process, and not claimed yet
                found += [(m.id, job.need) for m in there.machines.values() for n in job.nodes if _is_share(n, m.name)]
        return found

    def _likely(self, there: RayCluster) -> Mapping[str, Sequence[str]]:
        waiting = {job.spec.native_id: (job.width, job.need) for job in self._on(there) if not job.nodes}
        return slots.likely_places(there.machines.values(), self._holdings(there), waiting)

    def _on(self, there: RayCluster) -> Sequence[_Job]:
        return [job for job in self._jobs.values() if job.cluster is there and job.phase is not Phase.ENDED]

    def _nodes_of(self, job: _Job, likely: Sequence[str]) -> Sequence[Node]:
        """Its nodes; while Ray has not given them, those that it is likely to get."""
        run_id, need = job.spec.launch.run_id, dict(job.need)
        if not job.nodes:
            machines = [job.cluster.machines[machine] for machine in likely]
            return [Node(m.name, NodeStatus.RUNNING, m.address, run_id, resources=need) for m in machines]
        found = []
        for rank, name in enumerate(job.nodes):
            bundle = job.bundles[rank] if job.bundles else {}
            gpus = tuple(int(gpu) for gpu in bundle.get("gpus", ()) if str(gpu).isdigit())
            message = job.message if job.parts.get(rank) == "lost" else ""
            found.append(Node(name, NodeStatus.RUNNING, bundle.get("address"), run_id, gpus, need, message=message))
        return found

    def _of(self, cluster: ClusterSpec) -> Sequence[_Job]:
        return [job for job in self._jobs.values() if job.spec.cluster.name == cluster.name]

    def _slot(self, there: RayCluster, machine: RayMachine, number: int) -> str:
        """Name of the ``number``-th free share of a machine."""
        names = {node for job in self._jobs.values() if job.cluster is there for node in job.nodes}
        free = (name for k in range(1, 1 << 20) if (name := _share(machine.name, k)) not in names)
        for _ in range(number):
            next(free)
        return next(free)

    def _free_name(self, there: RayCluster, machine_id: str, host: str) -> str:
        machine = there.machines.get(machine_id)
        return self._slot(there, machine or RayMachine(machine_id, host, "", {}), 0)


def need_of(cluster: ClusterSpec) -> Resources:
    """What a node of the cluster asks of Ray: what its owner said, else its size's cores and GPUs, else one CPU."""
    if cluster.node_resources:
        return dict(cluster.node_resources)
    size = vm_sizes.find(cluster.vm_size) if cluster.vm_size else None
    gpus = cluster.gpus if cluster.gpus is not None else size.gpus if size else 0
    return {"CPU": float(size.vcpus) if size else 1.0, **({"GPU": float(gpus)} if gpus else {})}


def _variables(held: _Job, bundle: Mapping[str, Any]) -> Mapping[str, str]:
    variables = {"OMP_NUM_THREADS": str(max(1, int(held.need.get("CPU", 1))))}
    machine = held.cluster.machines.get(str(bundle["node"]))
    if bundle["gpus"] or (machine and machine.total.get("GPU")):  # who asked for none sees none
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(bundle["gpus"])
    return variables


def _waits(there: RayCluster) -> str:
    """Why a job has no nodes yet that Ray was asked for."""
    if not there.autoscaler:
        return "Ray is giving it its nodes."
    failure = f" It failed to of late: {there.failure}" if there.failure else ""
    if there.coming:
        return f"Ray's autoscaler adds nodes ({there.coming} on their way).{failure}"
    return f"Ray's autoscaler was asked for nodes.{failure}"


def _share(machine: str, number: int) -> str:
    return machine if number == 1 else f"{machine}.{number}"


def _is_share(node: str, machine: str) -> bool:
    return node == machine or node.startswith(f"{machine}.")


def _sound(machine: RayMachine) -> RayMachine:
    return RayMachine(machine.id, machine.name, machine.address, machine.total)


def _checked(cluster: ClusterSpec) -> Resources:
    """What a node asks for; raises ComputeTargetException for an option that is wrong."""
    options = cluster.options
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ComputeTargetException(f"{unknown[0]!r} is no option of a Ray cluster; it has {', '.join(_OPTIONS[:3])}.")
    address = options.get("address")
    if isinstance(address, str) and address.startswith("ray://"):
        raise ComputeTargetException(
            f"address={address!r} is one of Ray Client, which Windlass does not use. Give the address of the cluster's "
            "head itself, HOST:6379 unless it was started with another --port."
        )
    if not isinstance(address, str) or not _ADDRESS.match(address):
        raise ComputeTargetException(
            f"address={address!r} must be HOST:PORT of the head of a Ray cluster, such as 'head.lab:6379'."
        )
    for name in ("python", "agent_python", OWNER):
        if options.get(name) is not None and not (isinstance(options[name], str) and options[name]):
            raise ComputeTargetException(f"{name}={options[name]!r} must be the path of an interpreter, or left out.")
    need = need_of(cluster)
    for name, amount in need.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < float("inf"):
            raise ComputeTargetException(f"node_resources[{name!r}]={amount!r} must be a number of at least 0.")
        if name == "GPU" and amount != int(amount):
            raise ComputeTargetException(
                f"node_resources['GPU']={amount!r} must be a whole number: a GPU is handed to one run at a time."
            )
    if not any(amount for name, amount in need.items() if name != "memory"):
        raise ComputeTargetException(
            f"node_resources={dict(need)} must ask for more than memory, such as {{'CPU': 4, 'GPU': 1}}."
        )
    return need
