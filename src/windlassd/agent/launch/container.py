"""A process in a container: what its holder is told to have made (``plan``), and what it left word of.

Everything has the path inside that it has outside, so that variables, arguments and what the SDK tells the server mean
the same. Only the working folder, the spool, and what is made of data can be written; of the home there is the SDK and
the server's socket. ``/tmp`` and the image's own folders can be written too and go with the container.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass import settings
from windlass._transport.places import server_dir, socket_path
from windlass.specs.container import ContainerLaunch, ContainerOptions
from windlass.specs.data import MOUNT, OUTPUT, REFERENCE, DataSpec, fixed_part, is_pattern
from windlass.specs.launch import LaunchSpec
from windlassd.agent import container_init, holder
from windlassd.agent.engines import Engine, Engines, StartRefused
from windlassd.agent.environ import process_of
from windlassd.agent.launch import single
from windlassd.blobs.run_folder import RunFolder

INSIDE = "/.windlass"
"""Where the first process and its line are in the container."""
RUN_LABEL, WORKSPACE_LABEL = "windlass.run", "windlass.workspace"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The engines' own, for an image that names none."""
SHM_BYTES = 2 << 30
"""Of shared memory, unless something else is asked for: v1's default."""
_GPUS = "CUDA_VISIBLE_DEVICES"
_NETWORK_OF_MACHINE = (
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
"""Of the agent's own variables a container gets these alone: without them it would not get through this network."""
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class Place:
    """What a launch needs of its node."""

    workspace_dir: str
    sdk_dir: str
    own: Mapping[str, str]
    """The agent's variables."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of the node, seen in the container."""

    source: str
    target: str
    writable: bool = False


def inherited(launch: LaunchSpec, engines: Engines, own: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that a process in the container has anyway: the image's, and how this machine gets out.

    Raises:
        StartRefused: the engine does not answer, or has no such image.
    """
    assert launch.container is not None
    engine = engines.get(launch.container.engine)
    names = {*_NETWORK_OF_MACHINE, *(name.lower() for name in _NETWORK_OF_MACHINE)}
    user = _user_name()
    return {
        "PATH": _DEFAULT_PATH,
        "HOME": "/root" if engine.user_inside()[0] == 0 else "/tmp",  # the first process looks if it can be written
        "USER": user, "LOGNAME": user,
        **{name: value for name, value in own.items() if name in names},
        **engine.image_variables(launch.container.image),
    }  # fmt: skip


def ranks(
    launch: LaunchSpec, folder: RunFolder, place: Place, engines: Engines, variables: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """The keeper's rank list: a holder for each process, whose plan lies in the agent's folder.

    Raises:
        StartRefused: an option cannot be honoured here.
    """
    assert launch.container is not None
    engine, found = engines.get(launch.container.engine), []
    for rank in range(launch.process_count):
        env = {**variables[rank], **_gpu_variables(launch, variables[rank])}
        argv = single.words(launch, env)
        box = _box(folder, rank)
        os.makedirs(box, mode=0o700, exist_ok=True)
        _write(os.path.join(box, "init.py"), _init_text())
        plan = {
            "engine": launch.container.engine, "name": name(launch, rank), "line": box,
            "create": created(launch, engine, _mounts(launch, folder, place, box, env, engine), argv, env, folder),
            "report": report_path(folder, rank),
        }  # fmt: skip
        path = f"{box}.json"
        _write(path, json.dumps(plan))
        own = {
            settings.RUN_ID_VARIABLE: launch.run_id, settings.SPOOL_DIR_VARIABLE: folder.spool,
            settings.HOME_VARIABLE: settings.home(), "PATH": os.defpath,
        }  # fmt: skip
        log = folder.log(single.log_name(launch, rank))
        found.append({"argv": [sys.executable, "-I", "-S", holder.__file__, path], "env": own, "log": log})
    return found


def name(launch: LaunchSpec, rank: int) -> str:
    """The container's name, the same whoever starts it."""
    return f"windlass-{launch.run_id}.{launch.attempt}.{process_of(launch, rank)}"


def report_path(folder: RunFolder, rank: int) -> str:
    """Where the holder leaves word."""
    return f"{_box(folder, rank)}.report"


def report_of(folder: RunFolder, rank: int) -> Mapping[str, Any] | None:
    """What the holder left; None when it was killed before it knew anything."""
    try:
        with open(report_path(folder, rank), encoding="utf-8") as f:
            said = json.load(f)
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def all_told(launch: LaunchSpec, folder: RunFolder) -> bool:
    """True when the holders saw every container's processes end, so that nothing is left to look for."""
    said = [report_of(folder, rank) for rank in range(launch.process_count)]
    return all(entry is not None and not entry.get("lost") for entry in said)


def created(
    launch: LaunchSpec, engine: Engine, mounts: Sequence[Mount], argv: Sequence[str], env: Mapping[str, str],
    folder: RunFolder,
) -> Mapping[str, Any]:  # fmt: skip
    """The body of the engine's call that makes the container.

    Raises:
        StartRefused: an option cannot be honoured.
    """
    given = launch.container
    assert given is not None
    return {
        "Image": given.image,
        # Instead of the image's own entrypoint, as v1 did. Its Python is the environment's.
        "Entrypoint": [launch.python, "-I", "-S", f"{INSIDE}/init.py"],
        "Cmd": list(argv),
        "Env": [f"{key}={value}" for key, value in env.items()],
        "WorkingDir": folder.work,
        "User": "{}:{}".format(*engine.user_inside()),
        "Labels": {RUN_LABEL: launch.run_id, WORKSPACE_LABEL: folder.workspace_dir},
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "OpenStdin": False, "Tty": False,
        "HostConfig": {
            "AutoRemove": True,
            "Init": False,  # container_init.py is the first process: it reaps, and tells signals from exit codes
            "LogConfig": {"Type": "none"},  # the script writes to the run's log itself
            "Mounts": [_wire(mount) for mount in mounts],
            "RestartPolicy": {"Name": "no"},
            # Sockets of this machine may be connected to, and files of the home read, with SELinux too.
            "SecurityOpt": ["label=disable"],
            "GroupAdd": [str(group) for group in os.getgroups()] if not engine.rootless else [],
            "UsernsMode": engine.user_namespace(),
            **_limits(given, engine),
            **_devices(launch, given.options, env, engine),
        },
    }  # fmt: skip


def _limits(given: ContainerLaunch, engine: Engine) -> Mapping[str, Any]:
    options = given.options
    limits: dict[str, Any] = {"NetworkMode": options.network or "host", "Ulimits": list(map(_ulimit, options.ulimits))}
    if options.host_ipc:
        limits["IpcMode"] = "host"
    else:
        limits["ShmSize"] = options.shm_bytes or SHM_BYTES
    if options.memory_bytes:
        limits.update({"Memory": options.memory_bytes, "MemorySwap": options.memory_bytes})
    if options.cpus:
        cores = os.cpu_count() or 1
        if options.cpus > cores:
            raise StartRefused(f"cpus={options.cpus:g} is more than the {cores} that this machine has.")
        limits["NanoCpus"] = int(options.cpus * 1e9)
    for key, asked in (("memory", options.memory_bytes), ("cpus", options.cpus)):
        if asked and engine.lacks_limit(key):
            raise StartRefused(
                f"The container engine at {given.engine} cannot limit {key} here: its cgroup controller is not handed "
                f"to it. Leave {key} out, or use an engine that runs as root."
            )
    return limits


def _ulimit(text: str) -> Mapping[str, Any]:
    """``name=soft[:hard]`` as the engine takes it."""
    key, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return {"Name": key, "Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        raise StartRefused(f"The ulimit {text!r} cannot be read; write name=soft or name=soft:hard.") from None


def _devices(
    launch: LaunchSpec, options: ContainerOptions, env: Mapping[str, str], engine: Engine
) -> Mapping[str, Any]:  # fmt: skip
    gpus = _gpus(launch, options)
    if not gpus:
        return {}
    if engine.podman:
        raise StartRefused(
            f"GPU {gpus} cannot be handed to a container by Podman's API. Use Docker with NVIDIA's container toolkit "
            "(setting container_engine), or an environment without an image."
        )
    wanted = {"Count": -1} if gpus == "all" else {"DeviceIDs": gpus.split(",")}
    return {"DeviceRequests": [{"Driver": "nvidia", "Capabilities": [["gpu"]], **wanted}]}


def _gpus(launch: LaunchSpec, options: ContainerOptions) -> str:
    """``all``, or the indices of the GPUs to hand over; empty for none."""
    users = launch.environment_variables.get(_GPUS)
    given = options.gpus if options.gpus is not None else users
    return (launch.node_variables.get(_GPUS, "") if given is None else given).replace(" ", "")


def _gpu_variables(launch: LaunchSpec, env: Mapping[str, str]) -> Mapping[str, str]:
    """In the container the GPUs handed to it count from 0; without any, NVIDIA's runtime must not give it all."""
    assert launch.container is not None
    gpus = _gpus(launch, launch.container.options)
    if not gpus:
        return {"NVIDIA_VISIBLE_DEVICES": "void"} if _GPUS in env else {}
    if gpus == "all" or _GPUS not in env:
        return {}
    handed = gpus.split(",")
    own = [str(handed.index(gpu)) for gpu in env[_GPUS].replace(" ", "").split(",") if gpu in handed]
    return {_GPUS: ",".join(own or map(str, range(len(handed))))}


def _mounts(
    launch: LaunchSpec, folder: RunFolder, place: Place, box: str, env: Mapping[str, str], engine: Engine
) -> Sequence[Mount]:  # fmt: skip
    assert launch.container is not None
    certificates = [env[key] for key in _CERTIFICATES if key in env and env[key] == place.own.get(key)]
    found = [
        Mount(box, INSIDE),
        Mount(folder.work, folder.work, writable=True),
        Mount(folder.spool, folder.spool, writable=True),
        Mount(place.sdk_dir, place.sdk_dir),
        _server(place.workspace_dir, engine),
        *(Mount(path, path) for path in certificates if os.path.isabs(path) and os.path.exists(path)),
        *(mount for data in launch.data for mount in _data(data)),
    ]
    taken = {mount.target for mount in found}
    for text in launch.container.options.volumes:
        mount = _volume(text)
        if mount.target in taken:
            raise StartRefused(f"The volume {text!r} cannot be mounted: {mount.target} is a place of Windlass's own.")
        found.append(mount)
    return list({mount.target: mount for mount in sorted(found, key=lambda m: m.writable)}.values())


def _server(workspace_dir: str, engine: Engine) -> Mount:
    """The folder of the server's socket: a server that is started again makes a new one there."""
    own, place = server_dir(workspace_dir), os.path.dirname(socket_path(workspace_dir))
    if place == own:
        return Mount(own, own)
    above = os.path.dirname(settings.runtime_dir())  # its name tells the user's id, which may be another inside
    return Mount(place, os.path.join(above, f"windlass-{engine.user_inside()[0]}"))


def _data(data: DataSpec) -> Iterator[Mount]:
    """What must be seen of data that is used in place: its path is told, or links in the working folder lead there."""
    if data.mode != MOUNT:
        return  # copied into the working folder, or from there
    for place in data.places:
        path = fixed_part(place.path) if data.kind != REFERENCE and is_pattern(place.path) else place.path
        if place.root is not None:
            root = os.path.realpath(place.root)  # all of it: links lead from one file of a datastore to another
            yield Mount(root, root)
            path = os.path.join(root, path)
        path = os.path.normpath(path)
        if place.root is None or data.kind == OUTPUT:
            yield Mount(os.path.realpath(path), path, writable=data.kind == OUTPUT)


def _volume(text: str) -> Mount:
    """``/on/host:/in/container[:ro|:rw]``."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not (source.startswith("/") and target.startswith("/") and mode in ("", "ro", "rw")):
        raise StartRefused(
            f"The volume {text!r} cannot be mounted: write /on/host:/in/container, with :ro behind it where the job "
            "may only read. Volumes that the engine names are not offered."
        )
    if not os.path.exists(source):
        raise StartRefused(f"The volume {text!r} cannot be mounted: this machine has no {source}.")
    return Mount(source, os.path.normpath(target), writable=mode != "ro")


def _wire(mount: Mount) -> Mapping[str, Any]:
    return {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": not mount.writable}


def _box(folder: RunFolder, rank: int) -> str:
    return os.path.join(folder.agent, f"container-{rank}")


def _init_text() -> str:
    with open(container_init.__file__, encoding="utf-8") as f:
        return f.read()


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return f"user{os.getuid()}"


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
