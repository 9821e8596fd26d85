"""Real container engines for tests, as root: Docker, Podman, a registry, and base images made of this machine's files.

Each is a context manager that keeps all it has in a folder and ends with the test process, however that ends. No two
Docker daemons of a machine share ``docker0``, so these have no bridge: containers take the host's network or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windlass import settings

USER, PASSWORD = "ada", "correct-horse"
"""The one login that a registry with ``login=True`` takes."""
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS\n"
_START_S = 60.0
_LEFT_OUT = (
    "test", "site-packages", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "__pycache__", "pydoc_data",
)  # fmt: skip
_ALWAYS = (
    "libgcc_s.so.1", "libstdc++.so.6", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libpthread.so.0",
    "libdl.so.2", "libutil.so.1", "librt.so.1", "libm.so.6",
)  # fmt: skip
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@contextlib.contextmanager
def docker(folder: Path, *flags: str, keep: bool = False) -> Iterator[str]:
    """A Docker daemon of its own; yields the address of its API.

    Args:
        folder: Where it keeps all it has.
        flags: Further ones for dockerd.
        keep: Leave that there for a later one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "docker.sock"
    # One that was killed is a zombie where nobody reaps, and would be taken for alive.
    (folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
    argv = [
        "dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "-p", str(folder / "pid"),
        "-H", f"unix://{path}", "--bridge", "none", "--iptables=false", "--ip-forward=false", *flags,
    ]  # fmt: skip
    with _program(argv, folder, {}, lambda: _pings(path), keep=keep):
        yield f"unix://{path}"


@contextlib.contextmanager
def podman(folder: Path, *, insecure: Sequence[str] = ()) -> Iterator[str]:
    """Podman's API service with storage of its own; yields its address. ``insecure``: registries without TLS."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "podman.sock"
    env = podman_environment(folder, insecure=insecure)
    with _program(["podman", "system", "service", "--time", "0", f"unix://{path}"], folder, env, lambda: _pings(path)):
        yield f"unix://{path}"
        # Its containers have parents of their own, which outlive it.
        argv = ["podman", "rm", "--all", "--force", "--time", "0"]
        subprocess.run(argv, env={**_plain_environment(), **env}, check=True, capture_output=True)


def podman_environment(folder: Path, *, insecure: Sequence[str] = ()) -> Mapping[str, str]:
    """Variables with which ``podman`` works on this machine and keeps all it has in ``folder``."""
    # Its own defaults are higher than what a root without CAP_SYS_RESOURCE may set.
    limits = [
        f"{name}={_lowered(kind)}"
        for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
    ]
    init = shutil.which("docker-init") or shutil.which("catatonit") or ""
    (folder / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n"
        + '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        + f'init_path = "{init}"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder / "data"}"\nrunroot = "{folder / "run"}"\n'
    )
    entries = "".join(f'[[registry]]\nlocation = "{name}"\ninsecure = true\n' for name in insecure)
    (folder / "registries.conf").write_text(entries)
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }


def _lowered(kind: int) -> str:
    hard = resource.getrlimit(kind)[1]
    limit = 16384 if hard == resource.RLIM_INFINITY else min(hard, 16384)
    return f"{limit}:{limit}"


@contextlib.contextmanager
def registry(folder: Path, *, login: bool = False) -> Iterator[str]:
    """Debian's registry on a free port of this machine; yields ``localhost:<port>``.

    Args:
        folder: Where it keeps its images.
        login: True: takes USER with PASSWORD alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "htpasswd").write_text(_HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: tests, path: {folder / 'htpasswd'}}}}}\n" if login else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    with _program(["docker-registry", "serve", str(folder / "config.yml")], folder, {}, lambda: _answers(port)):
        yield f"localhost:{port}"


@dataclass(frozen=True)
class Base:
    """What a home-made base image holds beside the C library and the CA bundle."""

    pythons: tuple[str, ...] = (sysconfig.get_config_var("VERSION"),)
    """Minor versions of pyenv's CPythons, put under /usr/local; the first is ``python`` and ``python3`` too."""
    programs: tuple[str, ...] = ("sh",)
    """Programs of this machine, put into /bin; without ``sh`` the image has no shell."""


class Bases:
    """Base images, made once per contents as archives in ``folder`` and imported into any engine under any name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._archives: dict[Base, Path] = {}

    def image(
        self,
        engine: str,
        name: str = "base:1",
        base: Base = Base(),
        *,
        changes: Sequence[str] = (),
    ) -> str:
        """Have ``base`` as ``name`` in the engine at that address; returns the image's id.

        Args:
            engine: Address of its API.
            name: Repository and tag, such as ``microsoft/mmlspark:0.12``.
            base: What is in it.
            changes: Dockerfile instructions such as ``USER 1000`` or ``ENTRYPOINT ["/bin/false"]``.
        """
        client: Any = importlib.import_module("docker").APIClient(base_url=engine, version="auto", timeout=120)
        repository, _, tag = name.rpartition(":")
        asked = {"fromSrc": "-", "changes": list(changes)}
        try:
            with self.archive(base).open("rb") as data:
                answer = client._post(
                    client._url("/images/create"), data=data, params=asked, headers={"Content-Type": "application/tar"}
                )
            client._raise_for_status(answer)
            last = json.loads(answer.text.strip().splitlines()[-1])
            if "status" not in last:
                raise OSError(f"{engine} does not import {name}: {answer.text}")
            client.tag(last["status"], repository, tag)  # Podman 4.3 imports without the tag
            return str(client.inspect_image(name)["Id"])
        finally:
            client.close()

    def foreign(self, engine: str, name: str, architecture: str) -> None:
        """Have an image as ``name`` that says it is made for another architecture, such as ``arm64``."""
        layer, config = io.BytesIO(), {"architecture": architecture, "os": "linux", "config": {}}
        with tarfile.open(fileobj=layer, mode="w") as archive:
            _text(archive, "etc/motd", "hello\n")
        digest = hashlib.sha256(layer.getvalue()).hexdigest()
        config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w") as archive:
            _text(archive, "config.json", json.dumps(config))
            _text(archive, "manifest.json", json.dumps(manifest))
            info = tarfile.TarInfo("layer.tar")
            info.size = len(layer.getvalue())
            archive.addfile(info, io.BytesIO(layer.getvalue()))
        client: Any = importlib.import_module("docker").APIClient(base_url=engine, version="auto", timeout=120)
        try:
            for _ in client.load_image(whole.getvalue()):
                pass
        finally:
            client.close()

    def archive(self, base: Base = Base()) -> Path:
        """The files of ``base`` as a tar."""
        if base not in self._archives:
            path = self._folder / f"base{len(self._archives)}.tar"
            with tarfile.open(path, "w", dereference=True) as archive:
                _fill(archive, base)
            self._archives[base] = path
        return self._archives[base]


def _fill(archive: tarfile.TarFile, base: Base) -> None:
    needed = {f"/lib/{_multiarch()}/{name}" for name in _ALWAYS}
    for folder, mode in (("tmp", 0o1777), ("root", 0o700), ("etc", 0o755), ("var/tmp", 0o1777)):
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, mode
        archive.addfile(info)
    _text(archive, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    _text(archive, "etc/group", "root:x:0:\nnogroup:x:65534:\n")
    if os.path.exists(_CERTIFICATES):
        archive.add(_CERTIFICATES, _CERTIFICATES.lstrip("/"))
    for name in base.programs:
        path = os.path.realpath(shutil.which(name) or name)
        archive.add(path, f"bin/{name}")
        needed |= _libraries(path)
    for i, version in enumerate(base.pythons):
        needed |= _python(archive, version, default=i == 0)
    for library in sorted(path for path in needed if os.path.exists(path)):
        at = library.lstrip("/") if "/.pyenv/" not in library else f"lib/{_multiarch()}/{os.path.basename(library)}"
        archive.add(library, at)


def _python(archive: tarfile.TarFile, version: str, *, default: bool) -> set[str]:
    """Put one of pyenv's CPythons under /usr/local; returns the libraries that it needs."""
    prefix = pyenv_prefix(version)
    archive.add(prefix / "bin" / f"python{version}", f"usr/local/bin/python{version}")
    library = prefix / "lib" / f"python{version}"

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = os.path.basename(info.name)
        return None if name in _LEFT_OUT or name.startswith(("config-", "_test", "_tkinter")) else info

    archive.add(library, f"usr/local/lib/python{version}", filter=wanted)
    for name in ("python", "python3") if default else ():
        link = tarfile.TarInfo(f"usr/local/bin/{name}")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
        archive.addfile(link)
    modules = [path for path in (library / "lib-dynload").glob("*.so") if "_tkinter" not in path.name]
    return _libraries(str(prefix / "bin" / f"python{version}"), *map(str, modules))


def pyenv_prefix(version: str) -> Path:
    """Folder of pyenv's newest CPython of that minor version."""
    root = Path(settings.child_environment().get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    if not found:
        raise FileNotFoundError(f"pyenv has no CPython {version} under {root}")
    return found[-1].parent.parent


def _libraries(*paths: str) -> set[str]:
    """The shared libraries that ldd names, the loader among them."""
    said = subprocess.run(["ldd", *paths], capture_output=True, text=True).stdout
    words = [word for line in said.splitlines() for word in line.split()]
    return {word for word in words if word.startswith("/") and not word.endswith(":")}


def _multiarch() -> str:
    return str(sysconfig.get_config_var("MULTIARCH"))


def _text(archive: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), 0o644
    archive.addfile(info, io.BytesIO(text.encode()))


@contextlib.contextmanager
def _program(
    argv: Sequence[str], folder: Path, env: Mapping[str, str], ready: Callable[[], bool], *, keep: bool = False
) -> Iterator[None]:
    """``argv`` from when it is ready; ended, and its mounts and data removed, at the end."""
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**_plain_environment(), **env},
            start_new_session=True,  # Ctrl-C is for the tests, which end it in order
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not keep:
            remove(folder)


def _plain_environment() -> Mapping[str, str]:
    """Without what belongs to one test, whose end ends all processes of its WINDLASS_HOME."""
    return settings.child_environment(("WINDLASS_",))


def remove(folder: Path) -> None:
    """Delete what an engine that has ended left in ``folder``, its mounts first."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        points = [line.split()[1] for line in f]
    for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", point], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _pings(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
        line.settimeout(5)
        try:
            line.connect(str(path))
            line.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            return b" 200 " in line.recv(64)
        except OSError:
            return False


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except OSError:
        return False
    finally:
        connection.close()
