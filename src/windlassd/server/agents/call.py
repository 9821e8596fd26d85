"""One call over the listener for agents, as the checks of ``allowed`` see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Receive, Scope

from windlass.errors import UserErrorException
from windlass.specs._codec import whole_text
from windlassd.control.tokens import Holder
from windlassd.control.workspace import WorkspaceControl


class Refused(UserErrorException):
    """The token's holder may not do this; nothing was changed."""

    error_code = "not_allowed"


class TooLarge(UserErrorException):
    """The body is larger than the call takes."""

    error_code = "too_large"


class Call:
    """Who asks, for what, with which body; never more of the body than ``limit`` bytes is taken.

    Args:
        control: The workspace.
        holder: Whom the token stands for.
        scope: As the server has it.
        receive: As the server has it.
        params: The names in its path.
        limit: Most bytes of the body; None for those that go to the disk as they come.
    """

    def __init__(
        self, control: WorkspaceControl, holder: Holder, scope: Scope, receive: Receive, params: Mapping[str, str],
        limit: int | None,
    ) -> None:  # fmt: skip
        self.control = control
        self.holder = holder
        self.params = params
        self.query = QueryParams(scope["query_string"])
        self._receive = receive
        self._limit = limit
        self._seen = 0
        self._body: bytes | None = None
        self._told = False
        told = Headers(scope=scope).get("content-length", "")
        self._check(int(told) if told.isascii() and told.isdigit() else 0)

    async def json(self) -> Mapping[str, Any]:
        """The body's JSON object; whoever serves the call reads it again.

        Raises:
            TooLarge: there is more of it.
            UserErrorException: it is none.
        """
        if self._body is None:
            pieces = []
            while True:
                message = await self._receive_some()
                pieces.append(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    break
            self._body = b"".join(pieces)
        try:
            data = json.loads(self._body or b"{}")
        except ValueError as problem:
            raise UserErrorException(f"The body of this call is not JSON: {problem}") from problem
        if not isinstance(data, dict):
            raise UserErrorException("The body of this call must be a JSON object.")
        found: Mapping[str, Any] = whole_text(data)
        return found

    async def receive(self) -> Message:
        """For whoever serves the call."""
        if self._body is not None and not self._told:
            self._told = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        return await self._receive_some()

    async def _receive_some(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        self._check(self._seen)
        return message

    def _check(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise TooLarge(f"The body of this call has more than {self._limit} bytes, which is the most that it takes.")
