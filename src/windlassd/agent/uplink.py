"""The way of an agent on another machine to its server: TLS to the one pinned certificate, with the ticket's token.

No proxy is ever used, whatever the environment says: it would be shown the token. The server is never started from
here; while it is away, calls are sent again with growing pauses by those who make them.
"""

from __future__ import annotations

import copy
import hmac
import http.client
import logging
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from windlass._transport.client import Connection, Way
from windlass.errors import AuthenticationException, UserErrorException
from windlass.specs.launch import Ticket
from windlassd.blobs.shipped import FILES_PROTOCOL

log = logging.getLogger(__name__)
CONNECT_S = 10.0
_UNHEARD_MS = 15_000
"""How long what was sent may stay unacknowledged by the other machine before the connection counts as cut."""
_ASK_AFTER_S, _ASK_EVERY_S = 5, 5
_BLOCK_BYTES = 1 << 20
"""What is handed over at once of a body that is read while it is sent."""


class NotOurServer(OSError):
    """Who answered showed another certificate than the ticket's."""


class Uplink(Way):
    """How an agent elsewhere reaches its server.

    Args:
        ticket: What the engine gave it.
        refused: Called once when the server does not know the token (any more); calls then raise
            AuthenticationException.
        answered: Called after each answer with the time, by ``now``, at which its call was begun.
    """

    absent = (OSError, http.client.HTTPException)
    advice = ""

    def __init__(
        self, ticket: Ticket, refused: Callable[[], None] = lambda: None,
        answered: Callable[[float], None] = lambda sent: None,
    ) -> None:  # fmt: skip
        super().__init__(ticket.workspace)
        self.ticket = ticket
        self.addresses = [address_of(server) for server in ticket.servers]
        if not self.addresses:
            raise UserErrorException("The ticket names no server; submit the run again.")
        self.pinned = _pinned(ticket)
        self.context = context(self.pinned)
        self.refused, self.answered = refused, answered
        self._told = threading.Lock()

    @property
    def server(self) -> str:
        """The server's name in messages."""
        return f"server of {self.ticket.workspace} at {', '.join(self.ticket.servers)}"

    def connection(self, timeout_s: float) -> Connection:
        """A new connection, opened by the first call over it."""
        return _ToListener(self, timeout_s)

    def for_files(self) -> Uplink:
        """The same for connections that bring files, which a server gives threads of their own."""
        made = copy.copy(self)
        made.context = context(self.pinned)
        made.context.set_alpn_protocols([FILES_PROTOCOL])
        return made

    def ensure(self) -> None:
        """A server elsewhere cannot be started from here: whoever calls waits for it."""

    def why_silent(self) -> str:
        """Nothing of it can be seen from here."""
        return ""

    def connect(self, timeout_s: float) -> ssl.SSLSocket:
        """A connected socket to the first of the addresses that answers, its certificate checked.

        Raises:
            OSError: none does; the problem of the one that was tried last.
        """
        problem: OSError = ConnectionRefusedError("no address")
        for number, (host, port) in enumerate(self.addresses):
            try:
                found = self._connect_to(host, port, min(timeout_s, CONNECT_S))
            except OSError as failed:
                problem = failed
                continue
            if number:  # the next call begins with the one that answered
                self.addresses = [*self.addresses[number:], *self.addresses[:number]]
            return found
        raise problem

    def be_refused(self) -> AuthenticationException:
        """Tell, once, that the token is good no more; the error of the call that met it."""
        if self._told.acquire(blocking=False):
            log.error("the server does not know this agent's token: its part is over, or was given to another agent")
            self.refused()
        return AuthenticationException("The server does not know this agent's token (any more).")

    def _connect_to(self, host: str, port: int, timeout_s: float) -> ssl.SSLSocket:
        plain = socket.create_connection((host, port), timeout_s)
        try:
            notice_a_cut(plain)
            found = self.context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        try:
            check(self.pinned, found.getpeercert(binary_form=True))
        except OSError as problem:
            log.error("%s:%d is not the server of this agent's ticket: %s", host, port, problem)
            found.close()
            raise
        return found


class _ToListener(Connection):
    """HTTP to the server's listener for agents."""

    def __init__(self, uplink: Uplink, timeout_s: float) -> None:
        host, port = uplink.addresses[0]
        super().__init__(host, port, timeout=timeout_s, blocksize=_BLOCK_BYTES)
        self._uplink = uplink
        self._sent = 0.0

    def connect(self) -> None:
        self.sock = self._uplink.connect(self.timeout or CONNECT_S)
        self.sock.settimeout(self.timeout)

    def putrequest(self, method: str, url: str, skip_host: bool = False, skip_accept_encoding: bool = False) -> None:
        self._sent = now()
        super().putrequest(method, url, skip_host, skip_accept_encoding)
        self.putheader("Authorization", f"Bearer {self._uplink.ticket.token}")

    def getresponse(self) -> http.client.HTTPResponse:
        answer = super().getresponse()
        if answer.status == http.client.UNAUTHORIZED:
            self.close()
            raise self._uplink.be_refused()
        if answer.status < http.client.INTERNAL_SERVER_ERROR:
            self._uplink.answered(self._sent)
        return answer


def now() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def address_of(server: str) -> tuple[str, int]:
    """Host and port of a server's address.

    Raises:
        UserErrorException: it is no ``https://host:port``.
    """
    try:
        parts = urllib.parse.urlsplit(server)
        host, port = parts.hostname, parts.port
    except (ValueError, AttributeError):
        host, port = None, None
    if not host or port is None or parts.scheme != "https":
        raise UserErrorException(f"{server!r} is no address of a server; one is such as https://10.0.0.1:40123.")
    return host, port


def context(pinned: bytes | None) -> ssl.SSLContext:
    """How to speak TLS: with whoever shows ``pinned``, or with who the machine's own authorities vouch for."""
    if pinned is None:
        made = ssl.create_default_context()
    else:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False  # the certificate itself is compared, see ``check``
        made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def check(pinned: bytes | None, shown: bytes | None) -> None:
    """Raise NotOurServer unless the certificate that was shown is the pinned one (both in DER)."""
    if pinned is not None and not hmac.compare_digest(pinned, shown or b""):
        raise NotOurServer("it shows another certificate. Is another program at that address now?")


def notice_a_cut(sock: Any) -> None:
    """Have the kernel break the connection soon when the other machine acknowledges nothing any more."""
    options: Sequence[tuple[int, int, int]] = (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASK_AFTER_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASK_EVERY_S),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS),
    )
    for option in options:
        sock.setsockopt(*option)


def _pinned(ticket: Ticket) -> bytes | None:
    if ticket.certificate is None:
        return None
    try:
        return ssl.PEM_cert_to_DER_cert(ticket.certificate.strip())
    except ValueError as problem:
        raise UserErrorException(f"The ticket's certificate cannot be read: {problem}.") from problem
