"""How the driver process gets into a Ray cluster, or why it does not: standard library and Ray only."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any

_JOIN_OBJECTS_BYTES = 100 * 1024 * 1024
_PDEATHSIG = 1


class Refused(Exception):
    """The cluster cannot be used; ``code`` says in one word why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def connected(connect: dict[str, Any], joined: list[subprocess.Popen[bytes]]) -> Any:
    """Ray, connected; processes that were started for that stand in ``joined``.

    Raises:
        Refused: it cannot be.
    """
    address, limit_s = str(connect["address"]), float(connect.get("limit_s") or 30.0)
    if connect.get("token"):
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=str(connect["token"]))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as problem:
        raise Refused(
            "no_ray",
            f"{sys.executable} has no Ray ({problem}). Install it there (`{sys.executable} -m pip install "
            '"windlass[ray]"`), in the version that the cluster has, or name another interpreter with the option '
            "`python`.",
        ) from problem
    _knock(address)
    client = _within(limit_s, address, lambda: _ask_head(ray, address))
    ids = {node.hex() for node in client.get_all_node_info(timeout=limit_s)}
    services = importlib.import_module("ray._private.services")
    if not ids & {str(node) for node in services.find_node_ids()}:
        joined.append(_join(address))
    try:
        ray.init(address=address, namespace=str(connect["namespace"]), log_to_driver=False, logging_level="ERROR")
    except Exception as problem:  # whatever Ray raises
        raise Refused("ray", f"Ray at {address} cannot be used from here: {words(problem)}") from problem
    return ray


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
    except OSError as problem:
        raise Refused(
            "unreachable",
            f"No Ray cluster answers at {address} ({problem}). Give the address of its head as `ray start --head` "
            "shows it, HOST:6379 unless chosen otherwise, and see that this machine may connect to it.",
        ) from problem


def _within(limit_s: float, address: str, call: Any) -> Any:
    """What ``call`` returns; Ray's own clients wait for far longer."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call).result(limit_s)
    except TookTooLong as problem:
        raise Refused(
            "unreachable", f"Something answers at {address}, but not as the head of a Ray cluster does ({limit_s:g} s)."
        ) from problem
    finally:
        pool.shutdown(wait=False)


def _ask_head(ray: Any, address: str) -> Any:
    """A client of the cluster's head, whose versions are this process's.

    Raises:
        Refused: the token is wrong, or a version is another.
    """
    try:
        client = importlib.import_module("ray._raylet").GcsClient(address=address)
        told = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=10)
    except Exception as problem:  # whatever Ray raises
        if "Unauthenticated" in str(problem) or "InvalidAuthToken" in str(problem):
            sent = "with the token that was given" if os.environ.get("RAY_AUTH_TOKEN") else "without a token"
            raise Refused(
                "token",
                f"The Ray cluster at {address} does not let this server in {sent}. Give the one that its nodes were "
                "started with (RAY_AUTH_TOKEN, or what `ray get-auth-token` prints on its head).",
            ) from problem
        raise Refused("unreachable", f"The head of Ray at {address} does not answer: {words(problem)}") from problem
    if told:
        _compare(ray, address, json.loads(told))
    return client


def _compare(ray: Any, address: str, there: dict[str, Any]) -> None:
    here = platform.python_version()
    theirs, their_python = str(there.get("ray_version")), str(there.get("python_version"))
    if theirs != ray.__version__ or their_python.split(".")[:2] != here.split(".")[:2]:
        raise Refused(
            "version",
            f"The Ray cluster at {address} has Ray {theirs} and Python {their_python}; {sys.executable}, which speaks "
            f"to it, has Ray {ray.__version__} and Python {here}. Name an interpreter that fits with the option "
            f"`python`: an environment of Python {'.'.join(their_python.split('.')[:2])} with `pip install "
            f"ray=={theirs}`.",
        )
    if their_python != here:  # Ray itself would refuse a mere patch release
        os.environ["RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL"] = "minor"


def _join(address: str) -> subprocess.Popen[bytes]:
    """A node without anything to give on this machine: only nodes may speak to a cluster."""
    words = [
        sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--num-cpus=0", "--num-gpus=0",
        f"--object-store-memory={_JOIN_OBJECTS_BYTES}", "--block",
    ]  # fmt: skip

    def end_with_parent() -> None:
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, preexec_fn=end_with_parent
    )


def words(problem: BaseException) -> str:
    """What Ray's exception says, without its explanations and tracebacks."""
    name, text = type(problem).__name__, str(problem).strip()
    if name == "ActorDiedError" or name == "ActorUnavailableError":
        because = re.search(r"because (.+?)(?: Worker exit type|\. Some common|$)", text, re.S)
        reason = because[1] if because else text.splitlines()[0]
        return f"Ray lost what kept its place on the node ({' '.join(reason.split())[:300].rstrip('.')})."
    cause = getattr(problem, "cause", None)
    if name.startswith("RayTaskError") and cause is not None:
        return f"{cause}"
    return f"{name}: {text.splitlines()[0][:500] if text else 'no words'}"
