"""The agent's open line to the server, over which orders arrive. Losing it is how each learns of the other's death."""

from __future__ import annotations

import http.client
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import windlassd
from windlass._transport.client import Client
from windlass.errors import AzureMLException, ServiceUnavailable
from windlass.specs.launch import PROTOCOL, PartKey

log = logging.getLogger(__name__)
_SILENCE_S = 20.0  # the server writes at least every 5 s
_RETRY_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_GIVE_UP = 60


class OrderLine:
    """Reads orders on a thread of its own and hands each to ``obey``; ``runs`` tells the parts that the agent holds.

    A line that breaks without an ``exit`` order means that the server was killed: it is started again, so that queued
    runs go on without anybody calling.
    """

    def __init__(
        self, client: Client, agent: str, obey: Callable[[Mapping[str, Any]], None],
        runs: Callable[[], Sequence[PartKey]], give_up: float | None = None,
    ) -> None:  # fmt: skip
        self._client = client
        self._runs = runs
        self._path = f"/agent/v1/{agent}/orders"
        self._obey = obey
        self._give_up = _GIVE_UP if give_up is None else give_up
        self._tries = 0  # in a row, without a word from the server
        self.told_to_exit = False
        self.finished = threading.Event()
        threading.Thread(target=self._run, name="orders", daemon=True).start()

    def _run(self) -> None:
        while not self.told_to_exit and (self._tries < self._give_up or self._runs()):  # runs outlast any silence
            time.sleep(_RETRY_S[min(self._tries, len(_RETRY_S) - 1)])
            if not self._runs() and not os.path.isdir(self._client.workspace_dir):
                break  # the workspace was deleted: starting a server would bring it back
            try:
                if self._tries:
                    self._client.way.ensure()
                self._read()
            except ServiceUnavailable as problem:
                log.warning("no line to the server (try %d): %s", self._tries, problem)
            except (AzureMLException, OSError) as problem:
                log.error("the server cannot be started (try %d): %s", self._tries, problem)
            self._tries += 1
        self.finished.set()

    def _read(self) -> None:
        hello = json.dumps(
            {
                "pid": os.getpid(),
                "protocol": PROTOCOL,
                "version": windlassd.__version__,
                "time": time.time(),
                "runs": self._runs(),
            }
        ).encode()
        answer = self._client.open("POST", self._path, body=hello, own_connection=True, timeout_s=_SILENCE_S)
        try:
            while line := answer.readline():
                order = json.loads(line)
                if not isinstance(order, dict):
                    raise ValueError(f"{line[:200]!r} is no order")
                self._tries = 0
                if "exit" in order:
                    self.told_to_exit = True
                    return
                self._try(order)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise ServiceUnavailable(f"The line broke: {problem!r}") from problem
        finally:
            answer.close()

    def _try(self, order: Mapping[str, Any]) -> None:
        try:
            self._obey(order)
        except Exception:  # the edge: an order that makes no sense must not end the line, and with it all others
            log.exception("this order could not be carried out: %r", order)
