"""The process that speaks to a Ray cluster for the server; a script: standard library and Ray only.

It is run by an interpreter whose Ray and Python are the cluster's, so the server's own need not match. Orders come as
JSON lines on standard input, the first of them ``connect``; what happens goes as JSON lines to standard output (see
``docs/dev/2026-11-20-nodes.md``). It ends with its standard input. What it made in Ray is detached and stays: the next
one finds it by its name in the namespace of the workspace.

Nothing secret is in names, in what an actor is made with (Ray's head keeps that), or in logs. A ticket is the argument
of one direct call to an actor, which goes from this process to that one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any

_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if os.path.realpath(path) != _HERE]  # else `ray` would be the engine's file

_POLL_S = 0.5
_AWAY_S = 5.0
_WATCH_S = 60.0
_LAST_S = 2.0
_REMEMBER_S = 10.0
"""For so long a head that was just restarted may not know what it had."""
_STALE_S = 2.0
"""For so long Ray may still count what was given back."""
_REQUEST = re.compile(r" with request id [0-9a-f-]+")
_OWN_TYPE = re.compile(r"node_[0-9a-f]{40,}\Z")
"""What Ray calls the kind of a node that nobody's autoscaler started."""


def _beside(name: str) -> Any:
    """A module that lies beside this script."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(_HERE, f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_connecting = _beside("_ray_connect")
_words = _connecting.words


class Job:
    """A placement group and its actors."""

    def __init__(self, group: Any, actors: list[Any]) -> None:
        self.group = group
        self.actors = actors
        self.taken: dict[str, dict[str, float]] | None = None
        """Node id → what the group holds there, once Ray has placed it."""
        self.answered = False
        """Whether all actors are there: agents may run."""
        self.freed_at: float | None = None


class Driver:
    """Carries out orders. Those that wait for Ray do so in threads."""

    def __init__(self, ray: Any, connect: dict[str, Any]) -> None:
        self._ray = ray
        self._namespace = str(connect["namespace"])
        self._agent_python = connect.get("agent_python")
        self._jobs: dict[str, Job] = {}
        self._known: set[str] = set()
        """Jobs that are held or being made."""
        self._gone: list[Job] = []
        self._orders: dict[str, deque[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(64)
        self._asked = time.monotonic()
        self._away = False
        self._told: Any = None
        self._others: dict[str, dict[str, float]] = {}
        """Node id → what others had there at the last look."""
        self._place = _sent_along(ray)

    def run(self) -> None:
        """Until standard input ends."""
        threading.Thread(target=self._poll, daemon=True).start()
        threading.Thread(target=self._look_whether_away, daemon=True).start()
        last: Future[None] | None = None
        for line in sys.stdin:
            order = json.loads(line)
            if "job" in order:
                self._in_turn(order)
            else:
                last = self._pool.submit(self._carry_out, order)
        if last is not None:  # such as what Ray is to keep from now on
            with contextlib.suppress(TookTooLong):
                last.result(_LAST_S)

    def _in_turn(self, order: dict[str, Any]) -> None:
        """Orders for one job are carried out one after the other."""
        with self._lock:
            line = self._orders.setdefault(order["job"], deque())
            line.append(order)
            first = len(line) == 1
        if first:
            self._pool.submit(self._carry_out_all, order["job"], line)

    def _carry_out_all(self, job: str, line: deque[dict[str, Any]]) -> None:
        while True:
            self._carry_out(line[0])
            with self._lock:
                line.popleft()
                if not line:
                    del self._orders[job]
                    return

    def _carry_out(self, order: dict[str, Any]) -> None:
        what = order["do"]
        try:
            getattr(self, f"do_{what}")(**{name: value for name, value in order.items() if name != "do"})
        except Exception as problem:  # noqa: BLE001  whatever Ray raises: the server is to know
            if "job" in order:
                say({"failed": order["job"], "message": _words(problem)})
            else:
                say({"trouble": f"{what}: {_words(problem)}"})

    def do_place(self, job: str, count: int, resources: dict[str, float]) -> None:
        """Ask for the nodes of a job, and say ``placed`` when Ray has given them. What is there is used."""
        group_module = importlib.import_module("ray.util.placement_group")
        with self._lock:
            self._known.add(job)
        group = self._find_group(job)
        if group is None:
            bundles = [dict(resources) for _ in range(count)]
            group = group_module.placement_group(
                bundles, strategy="STRICT_SPREAD", name=self._name(job), lifetime="detached"
            )
        self._take_up(job, group, [self._actor(job, i, group, resources) for i in range(count)])

    def do_claim(self, job: str, count: int) -> None:
        """Find a job of an earlier driver again: ``placed``, or ``absent`` when it is not there as a whole."""
        with self._lock:
            self._known.add(job)
        until = time.monotonic() + _REMEMBER_S
        while True:
            group, found = self._find_group(job), self._actors_by_number(job, count)
            if (group is not None and len(found) == count) or time.monotonic() > until or self._more_for(job):
                break
            time.sleep(_POLL_S)
        if group is None or len(found) < count:
            say({"absent": job})
        else:
            self._take_up(job, group, found).answered = True

    def do_start(self, job: str, bundle: int, ticket: str) -> None:
        """Start the agent of one node, and watch it from then on."""
        with self._lock:
            actor = self._jobs[job].actors[bundle]
        begun = actor.start.remote(ticket).future()
        begun.add_done_callback(lambda done: self._pool.submit(self._started, job, bundle, done))

    def do_free(self, job: str, grace_s: float) -> None:
        """End a job's agents, actors and group, and say ``freed``."""
        with self._lock:
            held = self._jobs.pop(job, None)
            self._known.discard(job)
        group = held.group if held else self._find_group(job)
        actors = held.actors if held else self._actors_of(job)
        stops = [actor.stop.remote(grace_s) for actor in actors]
        if stops and (held is None or held.answered):
            self._ray.wait(stops, num_returns=len(stops), timeout=grace_s + 5.0)
        for actor in actors:
            self._ray.kill(actor, no_restart=True)
        if group is not None:
            importlib.import_module("ray.util.placement_group").remove_placement_group(group)
        if held is not None:
            held.freed_at = time.monotonic()
            with self._lock:
                self._gone.append(held)
        say({"freed": job})

    def do_sweep(self, keep: list[str]) -> None:
        """End every job in the namespace that is not in ``keep``."""
        names = [
            str(entry["name"]).rpartition("#")[0]
            for entry in self._ray.util.list_named_actors(all_namespaces=True)
            if entry["namespace"] == self._namespace
        ]
        groups = self._ray.util.placement_group_table()
        for group in groups.values():
            owner, _, job = str(group["name"]).partition("/")
            if owner == self._namespace and group["state"] != "REMOVED":
                names.append(job)
        with self._lock:
            left = sorted(set(names) - set(keep) - self._known - {""})
        for job in left:
            self.do_free(job, 5.0)
        say({"swept": left})

    def do_request(self, bundles: list[dict[str, float]]) -> None:
        """Have Ray's autoscaler keep at least nodes for these."""
        sdk = importlib.import_module("ray.autoscaler.sdk")
        sdk.request_resources(bundles=bundles)

    def do_facts(self, node: str) -> None:
        """Ask a node what it is, and say so."""
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        where = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        task = self._ray.remote(self._place.node_facts).options(num_cpus=0, max_retries=0, scheduling_strategy=where)
        try:
            answer = self._ray.get(task.remote(self._agent_python), timeout=90)
        except Exception as problem:  # noqa: BLE001  whatever Ray raises: the node has no facts
            answer = {"error": _words(problem)}
        say({"facts": node, **answer})

    def _actor(self, job: str, number: int, group: Any, resources: dict[str, float]) -> Any:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        custom = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU", "memory")}
        options: dict[str, Any] = {
            "name": f"{job}#{number}", "namespace": self._namespace, "lifetime": "detached", "get_if_exists": True,
            "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 16, "num_cpus": resources.get("CPU", 0),
            "num_gpus": resources.get("GPU", 0), "resources": custom,
            "scheduling_strategy": strategies.PlacementGroupSchedulingStrategy(group, number),
        }  # fmt: skip
        if resources.get("memory"):
            options["memory"] = resources["memory"]
        return self._ray.remote(self._place.Place).options(**options).remote(self._agent_python)

    def _take_up(self, job: str, group: Any, actors: list[Any]) -> Job:
        with self._lock:
            held = self._jobs[job] = Job(group, actors)
        refs = [actor.where.remote() for actor in actors]
        self._pool.submit(self._see_placed, held)
        left = len(refs)
        answers: list[Any] = [None] * left

        def arrived(number: int, done: Future[Any]) -> None:
            nonlocal left
            with self._lock:
                answers[number], left = done, left - 1
                complete = left == 0
            if complete:
                self._pool.submit(self._placed, job, held, answers)

        for number, ref in enumerate(refs):
            ref.future().add_done_callback(lambda done, number=number: arrived(number, done))
        return held

    def _placed(self, job: str, held: Job, answers: list[Any]) -> None:
        if not self._holds(job, held):
            return
        try:
            found = [answer.result() for answer in answers]
        except Exception as problem:  # noqa: BLE001  whatever Ray raises: one of the nodes is lost
            say({"failed": job, "message": _words(problem)})
            return
        held.answered = True
        say({"placed": job, "bundles": found})
        for number, place in enumerate(found):
            if place["started"]:
                self._watch(job, number)

    def _see_placed(self, held: Job) -> None:
        """Know what the group holds on which node, once it does."""
        while not held.group.wait(timeout_seconds=30):
            if held.freed_at is not None:
                return
        table = self._ray.util.placement_group_table(held.group)
        bundles, nodes = table["bundles"], table["bundles_to_node_id"]
        held.taken = {nodes[number]: bundles[number] for number in bundles if nodes.get(number)}

    def _started(self, job: str, bundle: int, done: Future[Any]) -> None:
        try:
            done.result()
        except Exception as problem:  # noqa: BLE001  whatever Ray raises
            self._say_part(job, bundle, "lost", _words(problem))
            return
        self._say_part(job, bundle, "running", "")
        self._watch(job, bundle)

    def _watch(self, job: str, bundle: int) -> None:
        with self._lock:
            held = self._jobs.get(job)
        if held is not None:
            ended = held.actors[bundle].watch.remote(_WATCH_S).future()
            ended.add_done_callback(lambda done: self._pool.submit(self._watched, job, bundle, done))

    def _watched(self, job: str, bundle: int, done: Future[Any]) -> None:
        try:
            how = done.result()
        except Exception as problem:  # noqa: BLE001  whatever Ray raises: actor, worker, node or the way there
            self._say_part(job, bundle, "lost", _words(problem))
            return
        if how is None:
            self._watch(job, bundle)
        elif how["code"] == 0:
            self._say_part(job, bundle, "ended", "")
        else:
            self._say_part(job, bundle, "lost", _agent_ended(how))

    def _say_part(self, job: str, bundle: int, state: str, message: str) -> None:
        with self._lock:
            known = job in self._jobs
        if known:
            say({"part": job, "bundle": bundle, "state": state, "message": message})

    def _holds(self, job: str, held: Job) -> bool:
        with self._lock:
            return self._jobs.get(job) is held

    def _find_group(self, job: str) -> Any:
        try:
            return self._ray.util.get_placement_group(self._name(job))
        except ValueError:
            return None

    def _actors_by_number(self, job: str, count: int) -> list[Any]:
        found = []
        for number in range(count):
            with contextlib.suppress(ValueError):
                found.append(self._ray.get_actor(f"{job}#{number}", namespace=self._namespace))
        return found

    def _more_for(self, job: str) -> bool:
        """Whether another order for the job waits."""
        with self._lock:
            return len(self._orders.get(job, ())) > 1

    def _actors_of(self, job: str) -> list[Any]:
        found = []
        for entry in self._ray.util.list_named_actors(all_namespaces=True):
            if entry["namespace"] == self._namespace and str(entry["name"]).rpartition("#")[0] == job:
                with contextlib.suppress(ValueError):
                    found.append(self._ray.get_actor(entry["name"], namespace=self._namespace))
        return found

    def _name(self, job: str) -> str:
        return f"{self._namespace}/{job}"

    def _poll(self) -> None:
        """Look at the nodes again and again; what is different is told."""
        while True:
            try:
                seen = self._look()
            except Exception as problem:  # noqa: BLE001  whatever Ray raises while its head is away; it is asked again
                seen = {"trouble": _words(problem)}
            self._asked = time.monotonic()
            if seen != self._told:
                self._told = seen
                say(seen)
            time.sleep(_POLL_S)

    def _look(self) -> dict[str, Any]:
        state = importlib.import_module("ray._private.state").state
        available = state.available_resources_per_node()
        leaving = state.get_draining_nodes() if hasattr(state, "get_draining_nodes") else {}
        ours = self._ours()
        nodes = []
        for node in self._ray.nodes():
            if not node["Alive"]:
                continue
            identity, total = node["NodeID"], _counted(node["Resources"])
            free, own = _counted(available.get(identity, {})), ours.get(identity, {})
            raw = {name: round(total[name] - free.get(name, 0.0) - own.get(name, 0.0), 4) for name in total}
            before = self._others.get(identity, raw)  # a group of ours that is just being placed looks like others'
            others = {name: min(amount, before.get(name, 0.0)) for name, amount in raw.items()}
            self._others[identity] = raw
            nodes.append({
                "id": identity, "name": node["NodeManagerHostname"], "address": node["NodeManagerAddress"],
                "total": total, "others": {name: amount for name, amount in others.items() if amount > 0},
                "leaving": identity in leaving,
            })  # fmt: skip
        return {"nodes": sorted(nodes, key=lambda node: str(node["id"])), **self._autoscaler()}

    def _ours(self) -> dict[str, dict[str, float]]:
        """Node id → what our groups hold there, those too that went a moment ago."""
        now = time.monotonic()
        with self._lock:
            self._gone = [job for job in self._gone if now - (job.freed_at or now) < _STALE_S]
            held = [*self._jobs.values(), *self._gone]
        sums: dict[str, dict[str, float]] = {}
        for job in held:
            for node, resources in (job.taken or {}).items():
                there = sums.setdefault(node, {})
                for name, amount in resources.items():
                    there[name] = there.get(name, 0.0) + amount
        return sums

    def _autoscaler(self) -> dict[str, Any]:
        """Whether Ray's autoscaler adds nodes, how many are on their way, and what failed of late."""
        if importlib.import_module("ray.autoscaler.v2.utils").is_autoscaler_v2():
            return self._second_autoscaler()
        text = importlib.import_module("ray.experimental.internal_kv")._internal_kv_get("__autoscaling_status")
        report = (json.loads(text).get("autoscaler_report") or {}) if text else {}
        kinds = list(report.get("active_nodes") or {}) + list(report.get("idle_nodes") or {})
        launching = sum(int(count) for count in (report.get("pending_launches") or {}).values())
        known = (report.get("node_availability_summary") or {}).get("node_availabilities") or {}
        failures = [(found.get("unavailable_node_information") or {}).get("description") for found in known.values()]
        return {
            "autoscaler": any(not _OWN_TYPE.match(kind) for kind in kinds),
            "coming": launching + len(report.get("pending_nodes") or []),
            "failure": _first_words(failures),
        }

    def _second_autoscaler(self) -> dict[str, Any]:
        """The same of Ray's newer autoscaler, which tells the head itself."""
        head = self._ray._private.worker.global_worker.gcs_client
        reply = importlib.import_module("ray.core.generated.autoscaler_pb2").GetClusterStatusReply()
        reply.ParseFromString(head.get_cluster_status(timeout_s=10))
        state, nodes = reply.autoscaling_state, reply.cluster_resource_state.node_states
        kinds = {node.ray_node_type_name for node in nodes}
        launching = sum(request.count for request in state.pending_instance_requests)
        failures = sorted(state.failed_instance_requests, key=lambda request: -int(request.failed_ts))
        return {
            "autoscaler": any(kind and not _OWN_TYPE.match(kind) for kind in kinds),
            "coming": launching + len(state.pending_instances),
            "failure": _first_words([request.reason for request in failures]),
        }

    def _look_whether_away(self) -> None:
        """Tell when Ray's head has not answered for a while, and when it does again."""
        while True:
            time.sleep(_POLL_S)
            away = time.monotonic() - self._asked > _AWAY_S
            if away != self._away:
                self._away = away
                say({"away": away})


_saying = threading.Lock()
_out = sys.stdout


def say(what: dict[str, Any]) -> None:
    """One line to the server."""
    with _saying:
        _out.write(json.dumps(what) + "\n")
        _out.flush()


def _keep_out_to_itself() -> None:
    """What Ray prints, at any time, goes to standard error: a line to the server must not be broken by it."""
    global _out
    _out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def main() -> int:
    """Connect as the first line says and carry out what follows."""
    connect = json.loads(sys.stdin.readline() or "{}")
    if not connect:
        return 0
    _keep_out_to_itself()
    joined: list[subprocess.Popen[bytes]] = []
    try:
        ray = _connecting.connected(connect, joined)
    except _connecting.Refused as problem:
        say({"refused": problem.code, "message": str(problem)})
        return 1
    say({"hello": {"ray": ray.__version__, "python": platform.python_version(), "joined": bool(joined)}})
    try:
        Driver(ray, connect).run()
    finally:
        for process in joined:
            process.terminate()
    os._exit(0)  # threads that wait for a cluster that does not answer must not hold it up


def _sent_along(ray: Any) -> Any:
    """The module of what is sent to nodes, where it need not be installed."""
    module = _beside("_ray_place")
    ray.cloudpickle.register_pickle_by_value(module)
    return module


def _agent_ended(how: dict[str, Any]) -> str:
    code, said = int(how["code"]), str(how["said"])
    word = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"The agent {word}" + (f": {said}" if said else "")


def _first_words(texts: Sequence[Any]) -> str:
    """The first of the texts that says something, on one line and without what is different each time."""
    return next((_REQUEST.sub("", " ".join(str(text).split()))[:300].rstrip(" :") for text in texts if text), "")


def _counted(resources: dict[str, float]) -> dict[str, float]:
    """Without what is Ray's own: a node's name, the parts of groups, the object store. Rounded, to be compared."""
    return {
        name: round(float(amount), 4)
        for name, amount in resources.items()
        if not name.startswith(("node:", "bundle_group_", "object_store_memory")) and "_group_" not in name
    }


if __name__ == "__main__":
    sys.exit(main())
