"""Follow a run to its end: phases on stderr with the time since it was made, its log on stdout."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, TextIO

import typer

from windlass.cli._show import plain, say, took

if TYPE_CHECKING:
    from windlass._transport.client import Client

INTERRUPTED = 130
_LOG_TAIL = "Its log ends with:"  # how the reason of a failed run goes on


def follow(
    client: "Client", run_id: str, out: "Callable[[str], Optional[TextIO]]", phases: bool = True
) -> "Dict[str, Any]":
    """The run's record (the wire's fields) once it is final.

    Args:
        client: Of the run's workspace.
        run_id: The run.
        out: Where the text of a log file goes; None leaves the file out.
        phases: Tell the run's phases and their reasons.

    Raises:
        typer.Exit: Ctrl-C; the watching stops with code 130, the run goes on.
    """
    from windlass._streaming import reconnecting

    watch = _Watch(out, phases)
    try:
        for event in reconnecting(client, run_id, logs=True):
            if event.name == "run":
                watch.run(event.data)
            elif event.name == "log":
                watch.log(event.data["file"], event.data["text"])
    except KeyboardInterrupt:
        watch.end_line()
        say("Stopped watching; the run goes on.")
        say("  windlass logs -f %s   watch it again\n  windlass stop %s      end it" % (run_id, run_id))
        raise typer.Exit(INTERRUPTED) from None
    watch.end_line()
    return watch.record


def outcome(record: "Dict[str, Any]") -> str:
    """How a final run ended, and why, without the log that was just shown; the reason may have several lines."""
    if record["status"] == "Completed":
        return "Completed in %s" % took(duration(record))
    lines = [plain(line) for line in line_of(record).split(_LOG_TAIL)[0].split("\n")]
    return "\n".join(lines).rstrip()


def headline(record: "Dict[str, Any]") -> str:
    """Status and why, in one line."""
    line = line_of(record).split(_LOG_TAIL)[0].split("\n")[0].rstrip()
    return line[: line.rindex(". ") + 1] if line.endswith(":") and ". " in line else line


def duration(record: "Dict[str, Any]") -> "Optional[float]":
    """Seconds the run has run, or None before it began."""
    if record["started"] is None:
        return None
    return float((record["ended"] or time.time()) - record["started"])


def line_of(record: "Dict[str, Any]") -> str:
    """Status and why, where there is more to say than the status itself."""
    from windlass._details import status_line
    from windlass.specs.run import RunRecord

    if (record["reason"] or {}).get("code") in ("completed", "canceled"):
        return str(record["status"])
    return status_line(RunRecord.from_wire(record))


class _Watch:
    """What was shown last, so that nothing is told twice and no line is torn."""

    def __init__(self, out: "Callable[[str], Optional[TextIO]]", phases: bool) -> None:
        self._out = out
        self._phases = phases
        self._told = ""
        self._file = ""
        self._unfinished: "Optional[TextIO]" = None
        self.record: "Dict[str, Any]" = {}

    def run(self, record: "Dict[str, Any]") -> None:
        self.record = record
        line = headline(record)
        if self._phases and line != self._told and record["ended"] is None and line != "NotStarted":
            self._told = line
            self.end_line()
            say("%10s  %s" % (took(time.time() - record["created"]), plain(line)), style="dim")

    def log(self, file: str, text: str) -> None:
        stream = self._out(file)
        if stream is None or not text:
            return
        if file != self._file:
            self.end_line()
            self._file = file
            say("==> %s" % plain(file), style="dim")
        stream.write(text)
        stream.flush()
        self._unfinished = None if text.endswith("\n") else stream

    def end_line(self) -> None:
        """On a terminal, begin a new line where the log has left one unfinished."""
        if self._unfinished is not None and self._unfinished.isatty():
            self._unfinished.write("\n")
            self._unfinished.flush()
        self._unfinished = None


def log_to(stream: TextIO, only: "Optional[str]" = None) -> "Callable[[str], Optional[TextIO]]":
    """For ``follow``: the file ``only`` (default: all) goes to ``stream``."""
    return lambda file: stream if only in (None, file) else None


def script_log(file: str) -> "Optional[TextIO]":
    """For ``follow``: what the script prints goes to stdout, what its environment's builder prints to stderr."""
    return sys.stderr if "image_build" in file else sys.stdout
