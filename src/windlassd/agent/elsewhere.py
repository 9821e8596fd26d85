"""The agent of one part on a machine that is not its server's: from the engine's ticket to the last acknowledged word.

Its place is the engine's: as long as standard input is open it has it. When that closes, or it is told by SIGTERM, it
ends the part's processes, brings home what there is, and goes. When the server no longer knows its token, its part is
over for everybody: it ends the processes and keeps nothing.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from windlass import settings
from windlass._transport.client import Client
from windlass.errors import AzureMLException, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec, PartKey, Ticket
from windlass.specs.run import Reason
from windlassd.agent import children, outcome
from windlassd.agent.agent import Agent, Ground
from windlassd.agent.data_cache import DataCache
from windlassd.agent.datastores import FetchedFolders
from windlassd.agent.lease import Lease
from windlassd.agent.node_folder import NodeFolder
from windlassd.agent.node_run import NodeRun
from windlassd.agent.orders import OrderLine
from windlassd.agent.relay import Relay
from windlassd.agent.ship import Shipper
from windlassd.agent.ship_files import FileShipper
from windlassd.agent.sources import NodeCache
from windlassd.agent.uplink import Uplink
from windlassd.blobs.sdk_copy import sdk_copy

log = logging.getLogger(__name__)
USAGE, DISMISSED = 2, 3
"""Exit codes: the ticket is no good; the server does not know the agent."""
_TICKET_BYTES = 1 << 20
_EXIT_ORDER_S = 5.0
"""How long an agent whose part is over waits for the order to exit, which then is on its way."""
_BEFORE_ME_S = 60.0
"""How long an agent waits for one of its name that still ends."""
_END_S = 60.0
"""How long an agent that the server does not know takes at most to end."""
_TELL_FOR_S = 24 * 3600.0
"""How long an agent that lost its place tries to bring home what it has."""
_BEATS = 4
"""Heartbeats in a lease, at least: the calls that renew it."""


def main() -> int:
    """Serve the part of the ticket on standard input; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _of_its_own()
    try:
        ticket = read_ticket(0)
        folder = NodeFolder(ticket)
        uplink = Uplink(ticket)
    except UserErrorException as problem:
        log.error("%s", problem.message)
        return USAGE
    os.environ[settings.ELSEWHERE_VARIABLE] = "1"
    place = Place(0)
    try:
        if not folder.enter(lambda: place.held, _BEFORE_ME_S):
            log.error("an agent named %s already runs here", ticket.agent)
            return 0
        agent = AgentElsewhere(ticket, uplink, folder)
    except (OSError, AzureMLException) as problem:  # such as a full disk
        folder.leave()
        return _tell_that_nothing_can_be_kept(ticket, uplink, problem, place)
    place.watch(agent.lose_place)
    threading.Thread(target=folder.sweep, name="sweep", daemon=True).start()
    try:
        agent.serve()
    finally:
        agent.close()
        folder.leave()
    return DISMISSED if agent.dismissed else 0


class AgentElsewhere(Agent):
    """Serves one part, over TLS. See the module."""

    def __init__(self, ticket: Ticket, uplink: Uplink, folder: NodeFolder) -> None:
        self.dismissed = False
        self._node_folder = folder
        self._lost: Reason | None = None
        self._had_a_part = False
        self._lease = Lease(self._lapse)
        uplink.answered, uplink.refused = self._lease.answered, self._be_dismissed
        self._whole = threading.Event()
        client, as_job = Client(folder.workspace, way=uplink), Client(folder.workspace)
        ground = Ground(
            client=client,
            sdk_dir=sdk_copy(os.path.join(folder.home, "sdk")),
            sources=NodeCache(client, ticket.agent, folder.blobs),
            datastores=FetchedFolders(
                client, ticket.agent, DataCache(client, ticket.agent, folder.data, beside=[folder.blobs])
            ),
            errands=lambda: children.bring_in(as_job, folder.workspace),
            files=FileShipper(Client(folder.workspace, way=uplink.for_files()), ticket.agent),
        )
        self._relay = Relay(uplink, folder.workspace)
        self._relay.start()
        try:
            super().__init__(folder.workspace, ticket.agent, ground)
        except BaseException:
            self._relay.close()
            raise
        if ticket.heartbeat_s:
            self._tools.shipper.beat_every(ticket.heartbeat_s)
        self._whole.set()

    def obey(self, order: Mapping[str, Any]) -> None:
        """As the agent here; a start order also has the token of the job, and perhaps a lease."""
        if "start" in order:
            self._had_a_part = True
            if token := order.get("job_token"):
                self._relay.use(str(token))
            if lease_s := order["start"].get("lease_s"):
                self._tools.shipper.beat_within(float(lease_s) / _BEATS)
                self._lease.hold(float(lease_s))
        super().obey(order)
        if "start" in order and self._lost is not None:  # the place was lost meanwhile
            self._end_all(self._lost)

    def lose_place(self, why: str) -> None:
        """End the part's processes and go when all is told. At the end of every part its place is taken away, too."""
        words = f"The place of the run on {{node}} was taken away: {why}. Its processes were ended."
        log.info("the place is gone: %s", why)
        self._lost = Reason("place_lost", words)
        self._end_all(self._lost)
        _later(_TELL_FOR_S, self._line.finished.set)
        self._go_when_free()

    def close(self) -> None:
        """Let go of the job's socket and of the lease; what the server would not have stays here for a while."""
        self._lease.end()
        self._relay.close()
        runs = os.path.join(self._workspace_dir, "runs")
        works = glob.glob(f"{glob.escape(runs)}/*/work") + glob.glob(f"{glob.escape(runs)}/*/nodes/*/work")
        if works and not self.dismissed:
            self._node_folder.note_not_kept()

    def _lapse(self) -> None:
        words = "No word from the server reached {node} for as long as its lease was: its processes were ended there, "
        words += "as the run may be begun anew elsewhere."
        log.error("the lease lapsed: every process is killed")
        self._lost = Reason("lease_lapsed", words)
        self._end_all(self._lost, at_once=True)

    def _be_dismissed(self) -> None:
        """The token is good no more. Called by whichever thread met that."""
        self.dismissed = True
        threading.Thread(target=self._end_dismissed, name="dismissed", daemon=True).start()

    def _end_dismissed(self) -> None:
        reason = Reason("dismissed", "The server does not know the agent on {node} any more.")
        log.error("the part is over for the server: its processes are killed, and what is not sent is not kept")
        self._lost = reason
        self._end_all(reason, at_once=True)
        self._go_when_free()
        _later(_END_S, self._line.finished.set)

    def _end_all(self, reason: Reason, at_once: bool = False) -> None:
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            told = replace(reason, message=reason.message.format(node=run.launch.node))
            (run.kill if at_once else run.stop)(told)

    def _clear_up(self) -> None:
        """The server names what of this part is not over; the rest goes with the part's folder."""

    def _ended(self, run: NodeRun) -> None:
        super()._ended(run)
        self._lease.end()
        self._go_when_free()

    def _finish_lost(self, launch: LaunchSpec) -> None:
        super()._finish_lost(launch)
        self._go_when_free()

    def _go_when_free(self) -> None:
        """Once nothing is held, go: at the order to exit, or a little later; at once where the place is lost."""
        self._whole.wait()  # the line's thread may get here before the line has its name
        if self._held():
            return
        if self._lost:
            self._line.finished.set()
        elif self._had_a_part:
            _later(_EXIT_ORDER_S, self._line.finished.set)


class Place:
    """What the engine keeps for the agent: it is held until the descriptor closes or somebody says SIGTERM."""

    def __init__(self, descriptor: int) -> None:
        self.held = True
        self._why = ""
        self._lose: Callable[[str], None] | None = None
        self._lock = threading.Lock()
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self._lost, args=("it got SIGTERM",)).start())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._read, args=(descriptor,), name="place", daemon=True).start()

    def watch(self, lose: Callable[[str], None]) -> None:
        """Have ``lose`` called with why when the place is lost; now if it is already."""
        with self._lock:
            self._lose = lose
            lost = not self.held
        if lost:
            lose(self._why)

    def _read(self, descriptor: int) -> None:
        try:
            while os.read(descriptor, 65536):
                pass
        except OSError as problem:
            log.warning("standard input: %s", problem)
        self._lost("the engine's process there ended, or the node is given back")

    def _lost(self, why: str) -> None:
        with self._lock:
            if not self.held:
                return
            self.held, self._why = False, why
            lose = self._lose
        if lose is not None:
            lose(why)


def read_ticket(descriptor: int) -> Ticket:
    """The ticket on the first line of what can be read there.

    Raises:
        UserErrorException: it is none.
    """
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1) if len(line) < _TICKET_BYTES else b""
        if not piece:
            break
        line += piece
    try:
        data = json.loads(line)
        ticket = Ticket.from_wire(data)
        texts = (ticket.agent, ticket.workspace, ticket.workspace_id, ticket.token, *ticket.servers)
    except (ValueError, TypeError, AttributeError) as problem:
        raise UserErrorException(f"Standard input has no ticket of an agent on its first line: {problem!r}.") from None
    certificate, beat_s = ticket.certificate, ticket.heartbeat_s
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(certificate, str | None):
        raise UserErrorException("The ticket on standard input lacks a name, an address or a token.")
    if isinstance(beat_s, bool) or not isinstance(beat_s, int | float | None) or (beat_s is not None and beat_s <= 0):
        raise UserErrorException(f"The ticket's heartbeat_s={beat_s!r} must be a number of seconds above 0.")
    return replace(ticket, servers=tuple(ticket.servers))


def _of_its_own() -> None:
    """Be a session of its own: what ends an engine's worker with its process group must not take the agent along.

    It has its own sign to end by, standard input, and then ends its processes and tells of it first.
    """
    try:
        os.setsid()
    except PermissionError:  # whoever started it has seen to that
        pass


def _tell_that_nothing_can_be_kept(ticket: Ticket, uplink: Uplink, problem: Exception, place: Place) -> int:
    """On a node without disk: answer the order to start with why it cannot be."""
    log.error("nothing can be kept on this node: %s", problem)
    client = Client(settings.home(), way=uplink)
    shipper = Shipper(client, ticket.agent)
    told = threading.Event()

    def refuse(order: Mapping[str, Any]) -> None:
        keys = [LaunchSpec.from_wire(order["start"]).key] if "start" in order else order.get("known", ())
        node = order["start"].get("node", "the node") if "start" in order else "the node"
        words = f"The run could not be started on {node}: nothing can be kept there: {problem}. Free space, or set "
        result = outcome.could_not_start("node_unusable", words + "WINDLASS_HOME there to a folder with room.")
        for key in keys:
            run_id, attempt, rank = key
            held: PartKey = (str(run_id), int(attempt), int(rank))
            told.set()
            shipper.wait(shipper.event(held, "ended", outcome=to_wire(result)))

    line = OrderLine(client, ticket.agent, refuse, lambda: (), give_up=float("inf"))
    place.watch(lambda why: line.finished.set())
    uplink.refused = line.finished.set
    line.finished.wait()
    return 0 if told.is_set() else 1


def _later(wait_s: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(wait_s, call)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
