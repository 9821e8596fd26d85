"""What this node's container engines are like, asked once; and removing what killed holders left with them."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from windlass.errors import UserErrorException
from windlassd.agent import holder
from windlassd.envs import container_engine
from windlassd.envs.base import EnvironmentFailed

log = logging.getLogger(__name__)
_QUICK_S = 20.0
_LATE_S = 5.0
_LOOPBACK = ("localhost", "127.0.0.1")


class StartRefused(UserErrorException):
    """The run cannot be started in its container; ``error_code`` becomes the run's reason."""

    error_code = "start_failed"


class Engine:
    """One engine. Its promises hold as long as its process does; the images of an id never change."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._info = self._ask("/info")
        components = self._ask("/version").get("Components") or []
        self.podman = any("podman" in str(part.get("Name", "")).lower() for part in components)
        security = [str(option) for option in self._info.get("SecurityOptions") or []]
        self.rootless = any("name=rootless" in option for option in security)
        self._variables: dict[str, Mapping[str, str]] = {}

    def user_inside(self) -> tuple[int, int]:
        """User and group whose files in a container are this process's outside."""
        if self.rootless and not self.podman:
            return 0, 0  # rootless Docker has this user as root of its own namespace
        return os.getuid(), os.getgid()

    def user_namespace(self) -> str:
        """The container's user namespace, in which ``user_inside`` is this user."""
        if self.podman:
            return "keep-id" if self.rootless else ""
        return "" if self.rootless else "host"

    def lacks_limit(self, what: str) -> bool:
        """True when the engine says that it cannot limit ``memory`` or ``cpus`` here."""
        return self._info.get({"memory": "MemoryLimit", "cpus": "CpuCfsQuota"}[what]) is False

    def image_variables(self, image: str) -> Mapping[str, str]:
        """The ENV of an image.

        Raises:
            StartRefused: it is not there.
        """
        if image not in self._variables:
            config = self._ask(f"/images/{quote(image, safe=':')}/json", image).get("Config") or {}
            pairs = (entry.partition("=") for entry in config.get("Env") or [])
            self._variables[image] = {name: value for name, _, value in pairs}
        return self._variables[image]

    def _ask(self, path: str, image: str = "") -> Mapping[str, Any]:
        try:
            found = holder.call(self._address, "GET", path, timeout_s=_QUICK_S)
        except holder.EngineError as problem:
            raise refusal(self._address, image, problem.status, problem.message) from problem
        return found if isinstance(found, dict) else {}


class Engines:
    """The engines that runs of this agent use. Safe to use from several threads."""

    def __init__(self, greet: Callable[[str], None] = lambda address: None) -> None:
        """``greet`` is called with an engine's address, on another thread, when leftovers are to be looked for."""
        self._greet = greet
        self._lock = threading.Lock()
        self._known: dict[tuple[str, object], Engine] = {}

    def get(self, address: str) -> Engine:
        """The engine at an address; another one when its socket was made anew.

        Raises:
            StartRefused: nobody answers there.
        """
        key = (checked(address), _identity(address))
        with self._lock:
            known = self._known.get(key)
        if known is not None and _listens(address):
            return known
        met = _met(address)  # without the lock: runs do not wait for each other where an engine hangs
        with self._lock:
            is_first = self._known.get(key) is known
            if is_first:
                self._known[key] = met
        if is_first:
            threading.Thread(target=self._greet, args=(address,), name=f"greet {address}", daemon=True).start()
        return met

    def remove_containers(self, address: str, names: Collection[str]) -> None:
        """End and remove these, where they are still there, and look again later: one may be in the making."""
        for name in names:
            _remove(address, name)
        again = threading.Timer(_LATE_S, self._greet, (address,))
        again.daemon = True
        again.start()


def sweep(address: str, workspace_label: str, run_label: str, workspace: str, held: Collection[str]) -> None:
    """Remove the containers of the workspace whose runs are not ``held``: an agent was killed with its engine."""
    wanted = quote(json.dumps({"label": [f"{workspace_label}={workspace}"]}))
    try:
        found = holder.call(address, "GET", f"/containers/json?all=1&filters={wanted}", timeout_s=_QUICK_S)
    except holder.EngineError as problem:
        log.warning("%s does not tell its containers: %s", address, problem)
        return
    for entry in found or []:
        run_id = str((entry.get("Labels") or {}).get(run_label, ""))
        if run_id not in held:
            log.info("the container %s of %s was left behind: it is removed", entry["Id"][:12], run_id)
            _remove(address, str(entry["Id"]))


def checked(address: str) -> str:
    """The address of an engine of this machine.

    Raises:
        StartRefused: it is not of this machine.
    """
    parts = urlsplit(address)
    if parts.scheme == "unix" or (parts.scheme in ("tcp", "http") and parts.hostname in _LOOPBACK and parts.port):
        return address
    raise StartRefused(
        f"The container engine at {address} cannot run jobs: they need this machine's folders, so it has to be one "
        "of this machine, with an address such as unix:///var/run/docker.sock (setting container_engine)."
    )


def refusal(address: str, image: str, status: int, said: str) -> StartRefused:
    """What a user is told of an engine's refusal, and the way out. ``status`` 0: nobody answered."""
    if status == 0:
        return StartRefused(
            f"The container engine at {address} does not answer: {said}.", error_code="engine_down",
            next_step="Start it (`systemctl start docker`, or `podman system service`), then submit again.",
        )  # fmt: skip
    if status == 404 and "image" in said.lower():
        return StartRefused(
            f"The image {image[:19]} of the environment is not in the container engine at {address} any more: {said}.",
            error_code="image_gone", next_step="Submit again: the environment is made anew.",
        )  # fmt: skip
    if "could not select device driver" in said or "nvidia" in said.lower():
        return StartRefused(
            f"The container engine at {address} cannot hand GPUs to containers: {said}.",
            next_step="Install NVIDIA's container toolkit and restart the engine, or use no image.",
        )
    if "executable file not found" in said or "no such file or directory" in said:
        return StartRefused(
            f"The container could not be started: {said}.",
            next_step="Its image needs Python 3.7 or newer: see that the environment's interpreter is in it.",
        )
    return StartRefused(f"The container engine at {address} refused to run the job: {said}.")


def _remove(address: str, container: str) -> None:
    problem = holder.remove(address, container)
    if problem is not None:
        log.warning("the container %s is left to the engine at %s: %s", container, address, problem)


def _met(address: str) -> Engine:
    """The engine at an address; Podman's own service, which ends when nobody asks it for a while, is started again."""
    try:
        return Engine(address)
    except StartRefused as problem:
        try:
            if problem.error_code != "engine_down" or not container_engine.wake(address):
                raise
        except EnvironmentFailed as other:
            raise StartRefused(other.message, error_code="engine_down") from other
    return Engine(address)


def _listens(address: str) -> bool:
    try:
        holder.call(address, "GET", "/_ping", timeout_s=_QUICK_S)
    except holder.EngineError as problem:
        return problem.status != 0
    return True


def _identity(address: str) -> object:
    """What tells an engine's socket from one that was made anew under its name."""
    try:
        state = os.stat(urlsplit(address).path)
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_ctime_ns
