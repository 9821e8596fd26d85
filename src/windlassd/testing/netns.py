"""Machines for tests: sets of namespaces of this one, with addresses, host names, processes and files of their own.

Needs root and iproute2. ``Network`` is the switch they hang on, in a namespace of its own (a Docker beside it drops
what bridges in this one forward). This process reaches the machines and they reach it, at ``Network.address``; nothing
else can be reached. All of it hangs on pipes that this process holds, so nothing is left when it is killed; its folder
goes when the next ``Network`` is made.
"""

from __future__ import annotations

import fcntl
import functools
import ipaddress
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from windlass import settings

_INIT = Path(__file__).with_name("machine_init.py")
_RANGE = ipaddress.IPv4Network("198.18.0.0/15")
"""Meant for tests of networks: routed nowhere."""
_PREFIX = "windlass-network-"
_HANDED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "PYENV_ROOT", "PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_BUNDLE")
"""What its owner would have set up on a machine: variables that begin with one of these."""
_HOME = "/tmp/home"
_NO_PACKETS = ("tbf", "rate", "8bit", "burst", "10", "limit", "10")
"""A queue that no packet fits in."""
_ASK_AGAIN_MS = 50
"""How often a machine asks who has an address that does not answer, so that a healed line is noticed at once."""


class Process:
    """A process on a machine. ``pid`` is its number here, ``pid_inside`` there."""

    def __init__(self, popen: subprocess.Popen[bytes], inside: int | None) -> None:
        self._popen = popen
        self.pid_inside = inside
        self.pid = _child_of(popen.pid)

    @property
    def stdin(self) -> IO[bytes]:
        """Its standard input, when it was started with a pipe."""
        assert self._popen.stdin is not None
        return self._popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Its standard output, when it was started with a pipe."""
        assert self._popen.stdout is not None
        return self._popen.stdout

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        return self._popen.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit code; 128 + signal as a shell says it, negative when the machine died."""
        return self._popen.wait(timeout_s)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing once it has ended."""
        if self.pid is not None and self.poll() is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Close the pipes to it."""
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe:
                pipe.close()


class Machine:
    """A machine; made by ``Network.start``.

    Its ``/tmp`` is its disk and has its HOME and WINDLASS_HOME; ``/tmp``, ``/var/tmp``, ``/dev/shm`` and the network's
    ``hidden`` folders of this machine are not seen there. Programs are this machine's.
    """

    def __init__(
        self, network: Network, name: str, address: str, *, disk_bytes: int | None, shared: Sequence[Path], gpus: int
    ) -> None:  # fmt: skip
        self.name = name
        self.address = address
        self.home = f"{_HOME}/windlass"
        """Its WINDLASS_HOME."""
        self._network = network
        self._disk_bytes = disk_bytes
        self._shared = [str(path.resolve()) for path in shared]
        self._folder = network.folder / name
        self.gpus = gpus
        self.is_cut = False
        self._processes: list[Process] = []
        self._init: int | None = None
        self._holder: subprocess.Popen[bytes] | None = None
        (self._folder / "disk").mkdir(parents=True)
        (self._folder / "disk").chmod(0o1777)

    @property
    def init(self) -> int:
        """Pid, here, of its first process: kill that and it crashes."""
        if self._init is None:
            raise RuntimeError(f"The machine {self.name} is down.")
        return self._init

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self._holder is not None and self._holder.poll() is None

    def start(
        self, command: Sequence[str], *, stdin: int = subprocess.DEVNULL, stdout: int | None = None,
        stderr: int | None = None, env: Mapping[str, str] | None = None, cwd: str = "/tmp",
    ) -> Process:  # fmt: skip
        """Start a command there.

        Args:
            command: Words.
            stdin: As ``subprocess.Popen`` has it, and so ``stdout`` and ``stderr``.
            stdout: Default: this process's.
            stderr: Default: this process's.
            env: Variables in addition to the machine's own.
            cwd: Folder there.
        """
        said, tell = os.pipe()
        enter = [*nsenter(self.init), "bash", "-c", f'echo $$ >&{tell}; exec {tell}>&-; cd "$0" && exec "$@"', cwd]
        try:
            popen = subprocess.Popen(
                [*enter, *command], stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=(tell,),
                env={**self.variables(), **(env or {})},
            )  # fmt: skip
        finally:
            os.close(tell)
        with os.fdopen(said) as line:
            number = line.readline().strip()
        process = Process(popen, int(number) if number else None)
        self._processes.append(process)
        return process

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """What a command prints there.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        done = subprocess.run(
            [*nsenter(self.init), *command], env={**self.variables(), **(env or {})}, check=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        return done.stdout

    def variables(self) -> Mapping[str, str]:
        """The environment of its processes."""
        ours = settings.child_environment()
        kept = {name: value for name, value in ours.items() if name.startswith(_HANDED_ON)}
        return {
            **kept,
            "HOME": _HOME,
            "WINDLASS_HOME": self.home,
            "HOSTNAME": self.name,
            "USER": "root",
            **self._network.variables,
        }

    def path(self, inside: str) -> Path:
        """A path of the machine as this process sees it; while it runs."""
        return Path(f"/proc/{self.init}/root{inside}")

    def processes(self) -> Sequence[psutil.Process]:
        """What runs there, without its first process."""
        if not self.up:
            return []
        own = os.readlink(f"/proc/{self.init}/ns/pid")
        return [p for p in psutil.process_iter() if p.pid != self._init and _pid_namespace(p.pid) == own]

    def kill(self) -> None:
        """Crash it: all its processes die at once. Returns when they have."""
        if self._init is not None and self.up:
            os.kill(self._init, 9)
        self._end()

    def restart(self) -> None:
        """Boot it, after a crash if it runs; its disk has what was there, unless it is in memory."""
        self.kill()
        self._network.boot([self])

    def cut(self, *, to: bool = True, away: bool = True) -> None:
        """Let nothing through any more, or only one way.

        Args:
            to: Cut off what others send to it.
            away: Cut off what it sends.
        """
        if to and away:
            self._network.ip(f"link set {self._port} down")
            self.is_cut = True
            self._network.write_control()
        elif to:
            self._network.queue(self._port, _NO_PACKETS)
        elif away:
            self._queue(_NO_PACKETS)

    def heal(self) -> None:
        """Undo ``cut`` and ``slow``."""
        self._network.queue(self._port, ())
        self._network.ip(f"link set {self._port} up")
        self._queue(())
        self.is_cut = False
        self._network.write_control()

    def slow(self, bits_per_s: int) -> None:
        """Let no more than this through, each way."""
        limit = ("tbf", "rate", str(bits_per_s), "burst", str(max(20_000, bits_per_s // 800)), "latency", "200ms")
        self._network.queue(self._port, limit)
        self._queue(limit)

    def boot(self) -> None:
        """For ``Network``: begin to boot."""
        network = self._network
        for name, text in (("boot_id", f"{uuid.uuid4()}\n"), ("resolv.conf", ""), ("nsswitch.conf", _NSSWITCH)):
            (self._folder / name).write_text(text)
        given = {
            "name": self.name, "home": _HOME, "disk": str(self._folder / "disk"), "disk_bytes": self._disk_bytes,
            "shared": self._shared, "hidden": [str(path) for path in network.hidden],
            "files": self._mounted_files(),
        }  # fmt: skip
        self._holder = _begin(given)

    def booted(self, port: str) -> int:
        """For ``Network``: its first process, once everything is mounted; it hangs on ``port`` of the switch."""
        assert self._holder is not None
        self._port, self.is_cut = port, False
        self._init = _first_process(self._holder, self.name)
        return self._init

    def control(self) -> Mapping[str, Any]:
        """What the engine ``netns`` is told of it."""
        return {
            "name": self.name, "address": self.address, "init": self._init, "gpus": self.gpus, "cut": self.is_cut,
            "variables": self.variables(),
        }  # fmt: skip

    def _mounted_files(self) -> Sequence[tuple[str, str]]:
        own = self._folder
        return [
            (str(self._network.folder / "hosts"), "/etc/hosts"),
            (str(own / "resolv.conf"), "/etc/resolv.conf"),
            (str(own / "nsswitch.conf"), "/etc/nsswitch.conf"),
            (str(own / "boot_id"), "/proc/sys/kernel/random/boot_id"),
        ]

    def _queue(self, words: Sequence[str]) -> None:
        if self.up:
            _set_queue(["nsenter", f"--net=/proc/{self.init}/ns/net"], "eth0", words)

    def _end(self) -> None:
        if self._holder is not None:
            _end(self._holder)
        self._holder = self._init = None
        for process in self._processes:  # the first process waited for all of them
            process.wait()
            process.close()
        self._processes.clear()


class Network:
    """A switch and the machines on it. A context manager; ``close`` ends everything.

    Args:
        hidden: Folders of this machine that the machines must not see, such as the server's WINDLASS_HOME.
        variables: What the environment of all their processes has beside the usual.
    """

    def __init__(self, hidden: Sequence[Path] = (), variables: Mapping[str, str] | None = None) -> None:
        _remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.folder)
        self.hidden = [path.resolve() for path in (*hidden, Path(settings.runtime_dir()))]
        hosts = _free_subnet().hosts()
        self._addresses = (str(address) for address in hosts)
        self.address = next(self._addresses)
        """This process's own, at which machines reach it."""
        self.machines: dict[str, Machine] = {}
        self.variables = dict(variables or {})
        self._ports = 0
        self._interface = f"wl{secrets.token_hex(5)}"
        switch = {"name": "switch", "home": "/tmp", "disk": str(self.folder), "disk_bytes": None}
        self._switch = _begin({**switch, "shared": [], "hidden": [], "files": []})
        try:
            self._switch_pid = _first_process(self._switch, "switch")
            self._wire_this_process()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self, *names: str, disk_bytes: int | None = None, shared: Sequence[Path] = (), gpus: int = 0
    ) -> Sequence[Machine]:
        """Boot new machines, all at once.

        Args:
            names: Host names.
            disk_bytes: Size of their disks, which then are in memory; default: in this machine's file system.
            shared: Folders of this machine that they see under the same path.
            gpus: How many the engine ``netns`` pretends that each has.
        """
        made = [
            Machine(self, name, next(self._addresses), disk_bytes=disk_bytes, shared=shared, gpus=gpus)
            for name in names
        ]
        self.machines.update((machine.name, machine) for machine in made)
        lines = [f"{m.address} {m.name}\n" for m in self.machines.values()]
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} server\n{''.join(lines)}")
        self.boot(made)
        return made

    def boot(self, machines: Sequence[Machine]) -> None:
        """Boot machines that are down."""
        for machine in machines:
            machine.boot()
        ports = []
        for machine in machines:
            self._ports += 1
            ports.append((machine, f"port{self._ports}", machine.booted(f"port{self._ports}")))
        self.ip(*(line for _, port, pid in ports for line in _plug(port, "eth0", pid)))
        for machine, _, pid in ports:
            into = ["nsenter", f"--net=/proc/{pid}/ns/net"]
            same = f"link set eth0 address {_hardware_address(machine.address)}"  # others remember it over a restart
            _ip(into, "link set lo up", same, f"addr add {machine.address}/27 dev eth0", "link set eth0 up")
            machine.run("sh", "-c", f"echo {_ASK_AGAIN_MS} > {_ask_again_file('eth0')}")
        self.write_control()

    @property
    def control(self) -> Path:
        """File for the engine ``netns``: ``ClusterSpec(…, options={"machines": str(network.control)})``."""
        return self.folder / "machines.json"

    def write_control(self) -> None:
        """For ``Machine``: write that file anew."""
        beside = self.folder / "machines.new"
        beside.write_text(json.dumps({"machines": [machine.control() for machine in self.machines.values()]}))
        beside.replace(self.control)

    def close(self) -> None:
        """End all machines and take everything away. May be repeated."""
        for machine in self.machines.values():
            machine.kill()
        remove = ["ip", "link", "del", self._interface]  # by itself it would go a moment later
        subprocess.run(remove, check=False, stderr=subprocess.DEVNULL)
        _end(self._switch)
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ip(self, *lines: str) -> None:
        """Run commands of ``ip`` in the switch."""
        _ip(["nsenter", f"--net=/proc/{self._switch_pid}/ns/net"], *lines)

    def queue(self, port: str, words: Sequence[str]) -> None:
        """Give a port of the switch a queue for what goes to its machine; none with empty ``words``."""
        _set_queue(["nsenter", f"--net=/proc/{self._switch_pid}/ns/net"], port, words)

    def _wire_this_process(self) -> None:
        self.ip(
            "link set lo up", "link add switch type bridge mcast_snooping 0", "link set switch up",
            *_plug("port0", self._interface, os.getpid()),
        )  # fmt: skip
        own = self._interface
        _ip([], f"addr add {self.address}/27 dev {own}", f"link set {own} up")
        Path(_ask_again_file(own)).write_text(str(_ASK_AGAIN_MS))


_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"


def nsenter(init: int) -> Sequence[str]:
    """Words before a command that start it on the machine with that first process."""
    return ("nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--")


def _begin(given: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    words = [_python(), "-I", "-S", str(_INIT), json.dumps(given)]
    env = settings.child_environment(("WINDLASS_",))  # who looks for processes of a home must not find these
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)


def _first_process(holder: subprocess.Popen[bytes], name: str) -> int:
    assert holder.stdout is not None
    line = holder.stdout.readline()
    if not line:
        raise RuntimeError(f"The machine {name} did not boot (exit code {holder.wait()}); what failed is above.")
    return int(line)


def _end(holder: subprocess.Popen[bytes]) -> None:
    for pipe in (holder.stdin, holder.stdout):
        if pipe:
            pipe.close()
    holder.wait()


@functools.cache
def _python() -> str:
    return os.path.realpath(sys.executable)


def _plug(port: str, interface: str, pid: int) -> Sequence[str]:
    """Commands that lead a cable from a new port of the switch to a new interface of a process's network."""
    return (
        f"link add {port} type veth peer name {interface} netns {pid}",
        f"link set {port} master switch",
        f"link set {port} up",
    )


def _hardware_address(address: str) -> str:
    return "02:77:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _ask_again_file(interface: str) -> str:
    return f"/proc/sys/net/ipv4/neigh/{interface}/retrans_time_ms"


def _ip(into: Sequence[str], *lines: str) -> None:
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run([*into, "ip", "-batch", "-"], input=text, text=True, check=True, stdout=subprocess.DEVNULL)


def _set_queue(into: Sequence[str], interface: str, words: Sequence[str]) -> None:
    if words:
        subprocess.run([*into, "tc", "qdisc", "replace", "dev", interface, "root", *words], check=True)
    else:  # fails when there is none
        subprocess.run([*into, "tc", "qdisc", "del", "dev", interface, "root"], stderr=subprocess.DEVNULL, check=False)


def _free_subnet() -> ipaddress.IPv4Network:
    """A network of 29 hosts that no interface of this machine is in."""
    taken = [
        ipaddress.ip_address(a.address) for found in psutil.net_if_addrs().values() for a in found if a.family == 2
    ]
    while True:
        chosen = ipaddress.IPv4Network((int(_RANGE.network_address) + 32 * random.randrange(1 << 12), 27))
        if not any(address in chosen for address in taken):
            return chosen


def _locked(folder: Path) -> IO[str]:
    lock = open(folder / "lock", "w")  # noqa: SIM115  held as long as the network is there
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove_leftovers() -> None:
    """Remove folders of killed processes: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with open(folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, being made, or another's
            continue


def _child_of(pid: int) -> int | None:
    """The only child of a process; None when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    except (FileNotFoundError, IndexError, ProcessLookupError):
        return None


def _pid_namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
