"""The spool writer: ``run.log`` on its hot path (DESIGN decision 2; the format stands in ``specs/spool.py``).

One file per process and run folder, a new one after fork; every frame goes out in one ``write``, so whatever kills the
process afterwards, the point is with the kernel. Nothing here talks to the network, and nothing raises because the
disk is full or read-only: such points are counted, and the count is written as soon as writing works again.
"""

from __future__ import annotations

import atexit
import os
import struct
import sys
import threading
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple
from zlib import crc32

from windlass.errors import UserErrorException
from windlass.specs import spool

_FLOAT, _INT, _NO_STEP = spool.FLOAT, spool.INT, spool.NO_STEP
_FLOAT_BYTES, _INT_BYTES = spool.FLOAT_BODY.size, spool.INT_BODY.size
_pack_float, _pack_int, _pack_header = spool.FLOAT_BODY.pack, spool.INT_BODY.pack, spool.HEADER.pack
_write, _now_ns = os.write, time.time_ns
_CLOSED = -1
_LONGEST_NAME = 255
_LONGEST_STEM = 100

_logs: "Dict[str, MetricsLog]" = {}
_logs_lock = threading.Lock()


def metrics_log(folder: str) -> "MetricsLog":
    """This process's one writer into the spool folder ``folder``."""
    with _logs_lock:
        log = _logs.get(folder)
        if log is None:
            log = _logs[folder] = MetricsLog(folder)
        return log


class MetricsLog:
    """Appends metric points to this process's spool file. Safe to use from several threads and after fork."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.RLock()  # reentrant: a signal handler may log while its thread is logging
        self._warned = False
        self._forget_file()

    @property
    def folder(self) -> str:
        """The spool folder that it writes into."""
        return self._folder

    def _forget_file(self) -> None:
        self._fd = _CLOSED
        self._name: "Optional[str]" = None
        self._scalars: "Dict[str, int]" = {}
        self._others: "Dict[Tuple[str, str], int]" = {}
        self._next_series = 0
        self._lost = 0
        self._counter = _CLOSED
        self._lost_in_all = 0

    def scalar(self, name: str, value: Any, description: str, step: "Optional[int]") -> None:
        """Append one point; see ``Run.log``."""
        with self._lock:
            try:
                series = self._scalars[name]
                if type(value) is float:
                    body = _pack_float(_FLOAT, series, _now_ns() // 1000, _NO_STEP if step is None else step, value)
                    frame = _pack_header(_FLOAT_BYTES, crc32(body)) + body
                elif type(value) is int:
                    body = _pack_int(_INT, series, _now_ns() // 1000, _NO_STEP if step is None else step, value)
                    frame = _pack_header(_INT_BYTES, crc32(body)) + body
                else:
                    frame = b""
            except (KeyError, TypeError, struct.error):  # a new series, or a value or step that does not fit
                frame = b""
            if frame and not self._lost:
                try:
                    done = _write(self._fd, frame)
                except OSError as e:
                    self._lose(e, 0)
                    return
                if done != len(frame):
                    self._lose(None, done)
                return
        self._scalar_slowly(name, value, description, step)

    def _scalar_slowly(self, name: Any, value: Any, description: str, step: Any) -> None:
        number = plain_value(name, value)
        checked = _checked_step(name, step)
        self._add(name, "scalar", description, number, checked)

    def composite(self, name: str, kind: str, value: Any, description: str) -> None:
        """Append one list, row or table as a JSON point; its cells must be plain already."""
        self._add(name, kind, description, value, _NO_STEP)

    def keep_file(self, name: Any, content: bytes, suffix: str) -> "Optional[str]":
        """Keep ``content`` with the run, beside its spool folder; the name it is kept under, None when it is lost.

        Like a point it waits for nobody, and is counted when the disk is full.
        """
        import re

        _checked_name(name)
        stem = "%s_%d" % (re.sub(r"[^\w +-]", "_", name)[:_LONGEST_STEM].strip() or "_", _now_ns() // 1000000000)
        folder = os.path.join(os.path.dirname(self._folder), "files")
        beside = os.path.join(self._folder, "%d-%x.part" % (os.getpid(), _now_ns()))
        try:
            for place in (self._folder, folder):
                os.makedirs(place, exist_ok=True)
            try:
                with open(beside, "xb") as f:
                    f.write(content)
                return _linked(beside, folder, stem, suffix)
            finally:
                os.unlink(beside)
        except OSError as e:
            with self._lock:
                self._lose(e, 0)
            return None

    def _add(self, name: str, kind: str, description: str, value: Any, step: int) -> None:
        _checked_name(name)
        now = _now_ns() // 1000
        with self._lock:
            known = self._scalars.get(name) if kind == "scalar" else self._others.get((kind, name))
            series = self._next_series if known is None else known
            frame = _frame(series, now, step, value)
            if known is not None:
                self._append(frame)
                return
            self._next_series += 1
            about = {"name": name, "kind": kind, "description": description or ""}
            if self._append(spool.series_frame(series, about) + frame):
                if kind == "scalar":
                    self._scalars[name] = series
                else:
                    self._others[kind, name] = series

    def _append(self, data: bytes) -> bool:
        """Write ``data`` (one point) after what is known to be lost; False when it is lost too. The lock is held."""
        if self._lost:
            data = spool.lost_frame(self._lost) + data
        try:
            if self._fd == _CLOSED:
                self._open()
            done = _write(self._fd, data)
        except OSError as e:
            self._lose(e, 0)
            return False
        if done != len(data):
            self._lose(None, done)
            return False
        self._lost = 0
        return True

    def _open(self) -> None:
        os.makedirs(self._folder, exist_ok=True)
        name = "%d-%x%s" % (os.getpid(), _now_ns(), spool.SUFFIX)
        self._fd = os.open(os.path.join(self._folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._name = name
        self._counter = os.open(os.path.join(self._folder, name[: -len(spool.SUFFIX)] + spool.LOST_SUFFIX),
                                os.O_WRONLY | os.O_CREAT, 0o600)  # fmt: skip
        os.write(self._counter, bytes(spool.LOST_BYTES))

    def _lose(self, problem: "Optional[OSError]", torn: int) -> None:
        """Count one point as lost and cut the part of its frame that was written. The lock is held."""
        self._lost += 1
        self._lost_in_all += 1
        self._note_losses()
        if torn:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - torn)
            except OSError as e:  # then what follows could not be told from the torn frame: go on in a new file
                problem = e
                self._start_new_file()
        if not self._warned:
            self._warned = True
            why = problem.strerror if problem is not None else "no space left"
            sys.stderr.write(
                "windlass: metric points cannot be written to %s (%s). The script goes on; the run will say how many "
                "points were lost.\n" % (self._folder, why)
            )

    def _note_losses(self) -> None:
        """Overwrite the count beside the spool, for the case that no frame can be written any more."""
        if self._counter != _CLOSED:
            try:
                os.pwrite(self._counter, self._lost_in_all.to_bytes(spool.LOST_BYTES, "little"), 0)
            except OSError:  # read-only by now: the user was warned
                pass

    def _start_new_file(self) -> None:
        lost, self._lost_in_all = self._lost, self._lost_in_all - self._lost
        self._note_losses()  # what the new file will tell is not to be told twice
        self._close()
        self._forget_file()
        self._lost = self._lost_in_all = lost

    def mark(self) -> "Optional[Tuple[str, int]]":
        """(file name, bytes) of everything this process has logged so far, or None when it logged nothing."""
        with self._lock:
            self._tell_losses()
            return None if self._name is None else (self._name, os.fstat(self._fd).st_size)

    def _tell_losses(self) -> None:
        """Try once more to write how many points were lost; the lock is held."""
        if not self._lost or self._fd == _CLOSED:
            return
        frame = spool.lost_frame(self._lost)
        try:
            done = _write(self._fd, frame)
            if done == len(frame):
                self._lost = 0
            elif done:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - done)
        except OSError:
            pass  # still no space: the user was warned when the first point was lost

    def after_fork(self) -> None:
        """In a forked child: leave the parent's file and begin one of our own with the next point."""
        self._lock = threading.RLock()
        self._close()
        self._forget_file()

    def close(self) -> None:
        """Nothing more will be logged here: let go of the files."""
        with _logs_lock:
            if _logs.get(self._folder) is self:
                del _logs[self._folder]
        with self._lock:
            self._tell_losses()
            self._close()
            self._forget_file()

    def _close(self) -> None:
        for fd in (self._fd, self._counter):
            if fd != _CLOSED:
                os.close(fd)


def _after_fork_in_child() -> None:
    global _logs_lock
    _logs_lock = threading.Lock()
    for log in _logs.values():
        log.after_fork()


def _at_exit() -> None:
    for log in list(_logs.values()):
        log.mark()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)


def _linked(source: str, folder: str, stem: str, suffix: str) -> str:
    """Give a file a name in ``folder`` that nobody has taken, other processes included."""
    number = 0
    while True:
        name = "%s%s%s" % (stem, "_%d" % number if number else "", suffix)
        try:
            os.link(source, os.path.join(folder, name))
            return name
        except FileExistsError:
            number += 1


def _frame(series: int, now: int, step: int, value: Any) -> bytes:
    if type(value) is float:
        return spool.seal(_pack_float(_FLOAT, series, now, step, value))
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return spool.seal(_pack_int(_INT, series, now, step, value))
    return spool.json_frame(series, now, step, value)


def plain_value(name: Any, value: Any) -> Any:
    """``value`` as a float, int, bool, str or None.

    Anything with ``item()`` (NumPy and framework scalars) or ``__float__`` is converted without importing its library.

    Raises:
        UserErrorException: it is of no such type; the message names the type and the metric.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    try:
        if hasattr(value, "item"):
            inner = value.item()
            return inner if inner is None or isinstance(inner, (bool, int, float, str)) else float(inner)
        if hasattr(type(value), "__float__"):
            return float(value)
    except (TypeError, ValueError, RuntimeError) as e:  # RuntimeError: what PyTorch raises for several elements
        raise _wrong_type(name, value, " (%s)" % e) from e
    raise _wrong_type(name, value, "")


def plain_cells(name: Any, values: Any) -> "List[Any]":
    """``values`` as a list of plain values; any iterable but a string or dictionary will do."""
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__iter__"):
        raise UserErrorException(
            "Metric %r: a list of values is needed, not %s. Use run.log for one value."
            % (name, type(values).__qualname__)
        )
    return [plain_value(name, value) for value in values]


def plain_columns(name: Any, columns: "Mapping[str, Any]") -> "Dict[str, Any]":
    """``columns`` with plain cells: a list stays a list, a single value stays one."""
    return {
        str(key): plain_cells(name, cell) if _is_list(cell) else plain_value(name, cell)
        for key, cell in columns.items()
    }


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, tuple)) or (bool(getattr(cell, "shape", ())) and hasattr(cell, "__iter__"))


def _wrong_type(name: Any, value: Any, why: str) -> UserErrorException:
    kind = type(value)
    full = kind.__qualname__ if kind.__module__ == "builtins" else "%s.%s" % (kind.__module__, kind.__qualname__)
    return UserErrorException(
        "Metric %r: a value of type %s cannot be logged%s. Allowed are numbers, text, True and False, None, and "
        "objects with item() or __float__; several values go to run.log_list." % (name, full, why)
    )


def _checked_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise UserErrorException("A metric's name must be text of at least one character, not %r." % (name,))
    if len(name) > _LONGEST_NAME or "\0" in name:
        raise UserErrorException(
            "The metric name %r… cannot be used: at most %d characters, none of them NUL." % (name[:60], _LONGEST_NAME)
        )


def _checked_step(name: Any, step: Any) -> int:
    if step is None:
        return _NO_STEP
    try:
        number = int(step.__index__())
    except (AttributeError, TypeError):
        raise UserErrorException("Metric %r: step must be a whole number, not %r." % (name, step)) from None
    if not -(1 << 63) < number < 1 << 63:
        raise UserErrorException("Metric %r: step %d does not fit 64 bits." % (name, number))
    return number
