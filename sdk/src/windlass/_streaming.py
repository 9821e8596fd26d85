"""``wait_for_completion``: follow a run to its end, printing its logs in v1's shape."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Dict, Iterator, Optional

from windlass._details import is_before_running, status_line, worth_a_line
from windlass.errors import ServiceUnavailable
from windlass.specs.run import RunRecord

if TYPE_CHECKING:
    from windlass._transport.client import Client, Event

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_QUIET_S, _SAY_AGAIN_S = 10.0, 600.0
"""Seconds without a server before anything is said, and between two words about it."""


def follow(client: "Client", run_id: str, web_view: str, show_output: bool) -> RunRecord:
    """The record of the run once it is final; meanwhile, with ``show_output``, its logs are printed as they grow.

    Raises:
        KeyboardInterrupt: the user stopped the streaming; the run goes on.
    """
    printer = _Printer() if show_output else None
    if printer is not None:
        printer.head(run_id, web_view)
    record: "Optional[RunRecord]" = None
    try:
        for event in reconnecting(client, run_id, logs=show_output):
            if event.name == "run":
                record = RunRecord.from_wire(event.data)
                if printer is not None and is_before_running(record.status) and worth_a_line(record):
                    printer.status(status_line(record))
            elif event.name == "log" and printer is not None:
                printer.log(event.data["file"], event.data["text"])
    except KeyboardInterrupt:
        _say(
            "\nStopped watching; the run goes on. Watch it again with run.wait_for_completion(show_output=True) or "
            "`windlass logs -f %s`; end it with run.cancel() or `windlass stop %s`.\n" % (run_id, run_id)
        )
        raise
    if record is None or not record.status.final:
        raise ServiceUnavailable("The server ended the stream of %s before the run was over." % run_id)
    if printer is not None:
        printer.summary(run_id, web_view)
    return record


def reconnecting(client: "Client", run_id: str, logs: bool) -> "Iterator[Event]":
    """Yield the run's events until it is over; a stream that breaks off is taken up where it was.

    A server that cannot be had is waited for as long as it takes, with a word on stderr: the run goes on without it,
    and who waits for it overnight must not find an error about its server in the morning.
    """
    from windlass._transport.client import quote

    offsets: "Dict[str, int]" = {}
    away = _Away(run_id)
    pause_s = 0.0
    while True:
        problem: "Optional[ServiceUnavailable]" = None
        try:
            asked = {"logs": "1", "offsets": json.dumps(offsets)} if logs else {}
            for event in client.events("/v1/runs/%s/stream" % quote(run_id), **asked):
                pause_s = 0.0
                away.answered()
                if event.name == "end":
                    return
                if event.name == "log":
                    offsets[event.data["file"]] = event.data["next"]
                yield event
        except ServiceUnavailable as e:
            problem = e
        away.failed(problem)
        time.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, pause_s * 2))


class _Away:
    """Says on stderr that the server is away, now and then, and that it is back."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._since: "Optional[float]" = None
        self._told = 0.0

    def failed(self, problem: "Optional[ServiceUnavailable]") -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self._told = now, now - _SAY_AGAIN_S + _QUIET_S
        if now - self._told < _SAY_AGAIN_S:
            return
        first, self._told = self._told < self._since, now
        why = problem.message if problem is not None else "It breaks off every stream."
        sys.stderr.write(
            "windlass: %s The run %s goes on without it; waiting for the server%s. Ctrl-C ends the waiting.\n"
            % (why, self._run_id, "" if first else ", %d min by now" % ((now - self._since) / 60))
        )
        sys.stderr.flush()

    def answered(self) -> None:
        if self._since is not None and self._told >= self._since:
            sys.stderr.write("windlass: the server is back.\n")
        self._since = None


class _Printer:
    """Writes to standard output; knows whether a line is unfinished and which file was streamed last."""

    def __init__(self) -> None:
        self._file: "Optional[str]" = None
        self._status: "Optional[str]" = None
        self._mid_line = False

    def head(self, run_id: str, web_view: str) -> None:
        _say("RunId: %s\nWeb View: %s\n\n" % (run_id, web_view))

    def status(self, line: str) -> None:
        if line != self._status:
            self._status = line
            self._end_line()
            _say(line + "\n")

    def log(self, file: str, text: str) -> None:
        if file != self._file:
            self._end_line()
            title = "Streaming %s" % file
            _say("%s%s\n%s\n" % ("\n" if self._file or self._status else "", title, "=" * len(title)))
            self._file = file
        if text:
            _say(text)
            self._mid_line = not text.endswith("\n")

    def summary(self, run_id: str, web_view: str) -> None:
        self._end_line()
        gap = "\n" if self._file or self._status else ""
        _say("%sExecution Summary\n=================\nRunId: %s\nWeb View: %s\n\n" % (gap, run_id, web_view))

    def _end_line(self) -> None:
        if self._mid_line:
            _say("\n")
            self._mid_line = False


def _say(text: str) -> None:
    out = sys.stdout
    try:
        out.write(text)
    except UnicodeEncodeError:  # a terminal that cannot show it still shows the rest
        encoding = getattr(out, "encoding", None) or "ascii"
        out.write(text.encode(encoding, "replace").decode(encoding))
    out.flush()
