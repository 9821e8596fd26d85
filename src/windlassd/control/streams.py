"""Event streams for those who watch: a run with its logs as they grow, or the records of many runs."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from windlass.errors import UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.run import RunRecord
from windlassd.blobs.run_folder import RunFolder
from windlassd.control.core import Core

KEEP_ALIVE_S = 15.0
_PIECE = 64 << 10
Event = tuple[str, Any]


class LogReader:
    """Reads a run's growing logs from byte offsets, cut at whole characters."""

    def __init__(self, folder: RunFolder, offsets: Mapping[str, int]) -> None:
        self._folder = folder
        self._offsets = dict(offsets)

    def more(self, final: bool) -> list[Event]:
        """The next pieces, one of each log at most; empty when all that lies there was read.

        Args:
            final: True when nothing will be appended any more: then an unfinished character comes too.
        """
        pieces = []
        for name in self._folder.logs():
            offset = self._offsets.get(name, 0)
            path = self._folder.find(name)
            if path is None or os.path.getsize(path) <= offset:
                continue
            with open(path, "rb") as f:
                f.seek(offset)
                data = f.read(_PIECE)
            text, used = _whole_text(data, final and len(data) < _PIECE)
            if used:
                self._offsets[name] = offset + used
                pieces.append(("log", {"file": name, "offset": offset, "next": offset + used, "text": text}))
        return pieces


def _whole_text(data: bytes, final: bool) -> tuple[str, int]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final)
    return text, len(data) - len(decoder.getstate()[0])


async def of_run(
    core: Core, record: Callable[[], RunRecord], run_id: str, *, logs: bool, offsets: Mapping[str, int]
) -> AsyncIterator[Event]:
    """Events of one run to its end; the last log text comes before the final record."""
    reader = LogReader(core.folder(run_id), offsets)
    told: RunRecord | None = None
    with core.bus.subscribe(run_id) as subscription:
        changed = {(run_id, kind) for kind in ("run", "log")}
        while True:
            now = record()
            final = now.status.final
            if now != told and not final:
                told = now
                yield "run", _brief(now)
            if logs:
                while pieces := reader.more(final):
                    for piece in pieces:
                        yield piece
                    await asyncio.sleep(0)  # a client that takes a long log as fast as it comes is not alone here
            if (run_id, "metrics") in changed or final:
                summaries = core.read(lambda tx: tx.series_of(run_id))
                yield "metrics", {"names": [s.name for s in summaries]}
            if (run_id, "files") in changed or final:
                yield "files", {}
            if final:
                yield "run", _brief(now)
                yield "end", {}
                return
            changed = await subscription.wait(KEEP_ALIVE_S)
            if subscription.closed:
                return
            if not changed:
                yield "keep-alive", None


async def of_runs(core: Core, experiment: str | None, record: Callable[[str], RunRecord]) -> AsyncIterator[Event]:
    """The record of each run that changes, as long as somebody listens."""
    with core.bus.subscribe(None) as subscription:
        while True:
            changed = await subscription.wait(KEEP_ALIVE_S)
            if subscription.closed:
                return
            if not changed:
                yield "keep-alive", None
            for run_id, _ in sorted(changed):
                try:
                    now = record(run_id)
                except UserErrorException:  # deleted meanwhile
                    continue
                if experiment is None or now.experiment == experiment:
                    yield "run", _brief(now)


def _brief(record: RunRecord) -> Mapping[str, Any]:
    brief = to_wire(record)
    brief["history"] = []
    return brief  # type: ignore[no-any-return]
