"""``diagnostic_log``: what the library logs while a block runs, in a file; v1's ``azureml.core.diagnostic_log``."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any, List, Optional

_FORMAT = "%(asctime)s|%(process)d|%(thread)d|%(name)s|%(levelname)s|%(message)s"
_OURS = {"azureml": "windlass"}
"""v1's loggers and those that took their place."""


class diagnostic_log:
    """Writes the debug log of some loggers to a file, from ``start_capture`` to ``stop_capture`` or in a ``with``.

    Args:
        log_path: The file, which is appended to; None makes one in the folder for temporary files.
        namespaces: Names of the loggers; None is this library's. ``azureml`` means this library, too.
        context_name: A word to find the block by: it is written at its begin and end.
    """

    def __init__(
        self, log_path: "Optional[str]" = None, namespaces: "Optional[List[str]]" = None,
        context_name: "Optional[str]" = None,
    ) -> None:  # fmt: skip
        self._path = os.path.abspath(log_path or _new_file())
        self._loggers = [logging.getLogger(_OURS.get(name, name)) for name in (namespaces or ["windlass"])]
        self._context = context_name or "diagnostic_log"
        self._handler: "Optional[logging.FileHandler]" = None
        self._levels: "List[int]" = []

    def start_capture(self) -> None:
        """Begin; does nothing when it has begun."""
        if self._handler is not None:
            return
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._handler = logging.FileHandler(self._path, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter(_FORMAT))
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.addHandler(self._handler)
            logger.setLevel(logging.DEBUG)
        self._loggers[0].debug("[START] %s", self._context)

    def stop_capture(self) -> None:
        """End and close the file; does nothing when it has not begun."""
        if self._handler is None:
            return
        self._loggers[0].debug("[STOP] %s", self._context)
        for logger, level in zip(self._loggers, self._levels):
            logger.removeHandler(self._handler)
            logger.setLevel(level)
        self._handler.close()
        self._handler = None

    def __enter__(self) -> "diagnostic_log":
        self.start_capture()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        if exc_val is not None:
            self._loggers[0].debug("%s", self._context, exc_info=(exc_type, exc_val, exc_tb))
        self.stop_capture()

    def __repr__(self) -> str:
        return "diagnostic_log(log_path=%r)" % self._path


def _new_file() -> str:
    handle, path = tempfile.mkstemp(prefix="windlass-", suffix=".log")
    os.close(handle)
    return path
