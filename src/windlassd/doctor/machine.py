"""The machine around a workspace: what is installed, disks, permissions, the socket, clock, GPUs, the agent."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from windlass import settings
from windlass._microsoft import find_microsoft
from windlass._transport.places import server_dir, socket_path
from windlass.errors import UserErrorException
from windlassd.compute import _gpus
from windlassd.doctor.patient import Patient, Problem, entries, server_lock
from windlassd.store import audit
from windlassd.store.filesystem import refuse_network

FULL_BYTES, LOW_BYTES = 32 << 20, 1 << 30
_FULL_INODES, _LOW_INODES = 100, 10_000
_CLOCK_S = 300.0
_STARTS = 3
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def installation(patient: Patient) -> Iterator[Problem]:
    """uv, Microsoft's packages, settings: what the server that would start here stands on."""
    found = find_microsoft()
    if found is not None:
        yield Problem("microsoft_sdk", found, f"Microsoft's azureml-core is in the same environment: {found}.")
    if importlib.util.find_spec("uv") is None or not _uv_is_there():
        yield Problem("uv_missing", "uv", "The program uv, which belongs to Windlass, is not installed.")
    try:
        settings.check()
    except UserErrorException as problem:
        yield Problem("settings_invalid", "settings", problem.message)


def file_systems(patient: Patient) -> Iterator[Problem]:
    """Room, inodes and kind of the file systems that Windlass writes to."""
    try:
        refuse_network(patient.workspace_dir)
    except UserErrorException as problem:
        yield Problem("network_file_system", patient.workspace_dir, problem.message)
    seen = set()
    environments = os.path.join(patient.home, "environments")
    for path in (patient.workspace_dir, patient.home, environments, tempfile.gettempdir()):
        try:
            device, room = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue  # not made yet
        if device in seen:
            continue
        seen.add(device)
        free, inodes = room.f_bavail * room.f_frsize, room.f_favail
        counts = room.f_files > 0  # some file systems make inodes as they need them and report none
        more = f" and {inodes} inodes" if counts else ""
        left = f"The file system of {path} has {free / 1e6:.0f} MB{more} left."
        if free < FULL_BYTES or (counts and inodes < _FULL_INODES):
            yield Problem("disk_full", path, left)
        elif free < LOW_BYTES or (counts and inodes < _LOW_INODES):
            yield Problem("disk_low", path, left)


def folders(patient: Patient) -> Iterator[Problem]:
    """Owner and permissions of the folders that must be this user's alone."""
    for path in (patient.home, patient.workspace_dir, server_dir(patient.workspace_dir)):
        try:
            state = os.stat(path)
        except OSError:
            continue
        if state.st_uid != os.getuid():
            yield Problem("folder_closed", path, f"{path} belongs to the user with id {state.st_uid}.")
        elif state.st_mode & 0o700 != 0o700 or not os.access(path, os.W_OK):
            detail = f"{path} may not be written ({stat.filemode(state.st_mode)}, or the disk is read-only)."
            yield Problem("folder_closed", path, detail)
        elif state.st_mode & 0o077:
            detail = f"{path} has the permissions {stat.filemode(state.st_mode)}."
            yield Problem("folder_open", path, detail, lambda path=path: os.chmod(path, 0o700))  # type: ignore[misc]


def server_socket(patient: Patient) -> Iterator[Problem]:
    """The place of the server's socket: free, or a socket that a server listens on."""
    path = socket_path(patient.workspace_dir)
    folder = os.path.dirname(path)
    if not path.startswith(patient.workspace_dir) and os.path.lexists(folder):
        state = os.lstat(folder)
        if stat.S_ISLNK(state.st_mode) or state.st_uid != os.getuid():
            yield Problem("socket_blocked", folder, f"{folder}, where the socket goes, is a link or another user's.")
            return
    if not os.path.lexists(path):
        return
    if os.path.isdir(path):
        yield Problem("socket_blocked", path, f"{path} is a folder.")
    elif patient.alone:
        detail = "No server runs, and its socket is there."
        yield Problem("socket_stale", patient.shown(path), detail, lambda: _unlink(path))


def silent_server(patient: Patient) -> Iterator[Problem]:
    """A process that holds the workspace and answers nobody."""
    if patient.silent:
        path = server_lock(patient.workspace_dir)
        detail = f"Somebody holds {path} and does not answer.{_said_pid(patient)}"
        yield Problem("server_silent", patient.shown(path), detail)


def clock(patient: Patient) -> Iterator[Problem]:
    """The clock against the newest record."""
    if patient.store is None:
        return
    ahead = patient.ask(audit.newest_us) / 1_000_000 - time.time()
    if ahead > _CLOCK_S:
        yield Problem("clock_behind", "clock", f"The newest record is {ahead:.0f} s ahead of this machine's clock.")


def gpus(patient: Patient, devices: Path = Path("/sys/bus/pci/devices")) -> Iterator[Problem]:
    """GPUs that the machine has and Windlass does not see."""
    present = sum(1 for device in entries(str(devices)) if _is_gpu(Path(device.path)))
    seen = len(_gpus.installed())
    if present > seen == 0:
        yield Problem("gpu_hidden", "gpu", f"The machine has {present} NVIDIA GPU(s); their driver is not loaded here.")


def agent(patient: Patient) -> Iterator[Problem]:
    """The agent, which its server starts until it comes."""
    failures = patient.live.agent_failures() if patient.live else 0
    if failures >= _STARTS:
        detail = f"The agent was started {failures} times and did not connect."
        yield Problem("agent_missing", "agents/local", detail)


def _said_pid(patient: Patient) -> str:
    """Which process the last server was, as it wrote down itself."""
    try:
        with open(os.path.join(server_dir(patient.workspace_dir), "server.json"), encoding="utf-8") as f:
            return f" The last server there was process {json.load(f)['pid']}."
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _uv_is_there() -> bool:
    import uv

    try:
        return os.access(uv.find_uv_bin(), os.X_OK)
    except FileNotFoundError:
        return False


def _is_gpu(device: Path) -> bool:
    try:
        vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
    except OSError:
        return False
    return vendor == _NVIDIA and kind.startswith(_DISPLAY)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
