"""Tickets for agents on other machines: where the server listens for them, what it shows there, and their tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from windlass import settings
from windlass.errors import ComputeTargetException
from windlass.specs.launch import Ticket
from windlassd.control.tokens import Tokens


class Door(Protocol):
    """The listener for agents on other machines."""

    trouble: str | None
    """What keeps agents from reaching it, in words for whoever runs it; None when nothing does."""
    workspace_id: str

    @property
    def certificate(self) -> str | None:
        """What agents pin (PEM); None when their own authorities are to vouch for it."""
        ...

    def addresses(self, towards: str | None = None) -> Sequence[str]:
        """Where agents find it, the likeliest first; with an address of a node, first what that node sees.

        Raises:
            ComputeTargetException: it does not listen, and why.
        """
        ...

    async def open(self) -> None:
        """Listen, unless it does.

        Raises:
            ComputeTargetException: it cannot; the message says why and what to do.
        """
        ...


class Enlisting:
    """Gives tickets and ends them. May be called from any thread.

    Args:
        workspace_dir: The workspace's folder.
        tokens: Of this workspace.
    """

    def __init__(self, workspace_dir: str, tokens: Tokens) -> None:
        self._name = os.path.basename(workspace_dir)
        self.tokens = tokens
        self.door: Door | None = None

    def ticket(self, agent: str, run_id: str, towards: str | None = None) -> Ticket:
        """See ``AgentLink.enlist``."""
        if self.door is None:
            raise ComputeTargetException("This server has no listener for agents on other machines.")
        servers = tuple(self.door.addresses(towards))
        token = self.tokens.enlist(agent, run_id)
        beat_s = float(settings.steady("heartbeat_s"))
        return Ticket(agent, self._name, self.door.workspace_id, servers, token, self.door.certificate, beat_s)

    def dismiss(self, agent: str, over: bool) -> None:
        """Its tokens end; unless it has told of its end (``over``) it may still bring what it has."""
        (self.tokens.end if over else self.tokens.late)(agent)
