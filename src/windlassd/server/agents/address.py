"""Where the listener for agents listens, and under which addresses nodes find it."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
import os
import random
import re
import socket
import struct
from collections.abc import Iterator, Sequence

from windlass import settings
from windlass.errors import ComputeTargetException

log = logging.getLogger(__name__)
PORT_FILE = "agents-port"
_LIKELY_FREE = range(20_000, 32_000)
"""Below the ports that the kernel gives to connections that go out: one of these is still free after a restart."""
_TRIES = 50
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_SIOCGIFADDR = 0x8915
_FAR = "192.0.2.1"
"""An address for documentation: asking which way leads there sends nothing."""


class PortTaken(ComputeTargetException):
    """Somebody else listens on the port that agents know."""


def bound(folder: str) -> socket.socket:
    """A socket on the address of ``agents_listen``, on the port that agents know already where they know one.

    Raises:
        PortTaken: another process has that port.
        ComputeTargetException: ``agents_listen`` cannot be listened on.
    """
    host, port = listen()
    _given()
    kept = kept_port(folder)
    sock = _bind(host, port or kept) if port or kept else _bind_free(host)
    _keep(folder, sock.getsockname()[1])
    return sock


def listen() -> tuple[str, int]:
    """Host and port of ``agents_listen``; port 0 means whichever is kept, or free."""
    text = str(settings.get("agents_listen"))
    host, port = _split(text)
    try:
        ipaddress.ip_address(host)
    except ValueError as problem:
        raise ComputeTargetException(
            f"agents_listen is {text!r}; it must be an address of this machine and a port, such as 0.0.0.0:0 (all "
            "addresses, a free port), 10.0.0.5:8765 or [::]:8765."
        ) from problem
    return host, port or 0


def _given() -> tuple[str, int | None] | None:
    """Host and port of ``agents_address``; None when it is not set."""
    text = settings.get("agents_address")
    if not text:
        return None
    host, port = _split(str(text))
    if not (_is_address(host) or _NAME.fullmatch(host)):
        raise ComputeTargetException(
            f"agents_address is {text!r}; it must be a name or an address of this machine as nodes see it, with a port "
            "where that is another than the one it listens on: head.lab, 10.0.0.5:8765 or [2001:db8::5]:8765."
        )
    return host, port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def kept_port(folder: str) -> int:
    """The port that agents were told; 0 when none was."""
    try:
        with open(os.path.join(folder, PORT_FILE), encoding="utf-8") as f:
            port = int(f.read())
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0


def told(port: int, towards: str | None, host: str | None = None) -> Sequence[str]:
    """``https://…`` addresses for a ticket, the likeliest first; ``host`` is the one it listens on, once it does."""
    if (given := _given()) is not None:
        name, own = given
        return (_url(name, own or port),)
    host = host or listen()[0]
    hosts = _of_machine(towards, v6=":" in host) if ipaddress.ip_address(host).is_unspecified else [host]
    return tuple(_url(host, port) for host in dict.fromkeys(hosts))


def _of_machine(towards: str | None, v6: bool) -> Iterator[str]:
    """Addresses of this machine: the one on the way to a node, that on the way out, the others, itself."""
    for there in (towards, _FAR):
        if there is not None and (here := _on_the_way(there)) is not None:
            yield here
    yield from (a for a in (*_of_cards(), *(_of_cards6() if v6 else ())) if not ipaddress.ip_address(a).is_loopback)
    yield "127.0.0.1"


def _of_cards() -> Iterator[str]:
    """The IPv4 address of each network card that has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has none
                continue
            yield socket.inet_ntoa(answer[20:24])


def _of_cards6() -> Iterator[str]:
    """The IPv6 addresses that other machines can call."""
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as f:
            found = [ipaddress.IPv6Address(bytes.fromhex(line.split()[0])) for line in f]
    except FileNotFoundError:
        return
    yield from (str(address) for address in found if not address.is_link_local)


def _on_the_way(there: str) -> str | None:
    """This machine's address as a packet to ``there`` would carry it; nothing is sent."""
    kind = socket.AF_INET6 if ":" in there else socket.AF_INET
    try:
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            sock.connect((there, 9))
            return str(sock.getsockname()[0])
    except OSError:  # no way leads there, or it is a name that is not known here
        return None


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        sock.bind((host, port))
        sock.listen(512)
    except OSError as problem:
        sock.close()
        if isinstance(problem, PermissionError) or problem.errno != errno.EADDRINUSE:
            raise ComputeTargetException(
                f"The server cannot listen on {host} port {port} for agents on other machines: {problem.strerror}. Set "
                "agents_listen to an address of this machine and a port that its user may use."
            ) from problem
        raise PortTaken(
            f"Another process listens on port {port} ({host}), where agents on other machines look for this server: "
            f"until it ends they cannot reach it. Find it with `ss -ltnp 'sport = :{port}'` and end it."
        ) from problem
    return sock


def _bind_free(host: str) -> socket.socket:
    for _ in range(_TRIES):
        try:
            return _bind(host, random.choice(_LIKELY_FREE))
        except PortTaken:
            continue
    return _bind(host, 0)


def _keep(folder: str, port: int) -> None:
    if kept_port(folder) == port:
        return
    path = os.path.join(folder, PORT_FILE)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        f.write(str(port))
    os.replace(path + ".tmp", path)


def _split(text: str) -> tuple[str, int | None]:
    """Host and port of ``host:port``, ``host``, ``[v6]:port`` or ``v6``."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return text.strip("[]"), None
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ComputeTargetException(
            f"{text!r} names no port that there could be: write host:port with a port of 0 to 65535 in agents_listen "
            "and agents_address."
        )
    return host.strip("[]"), int(port)


def _url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
