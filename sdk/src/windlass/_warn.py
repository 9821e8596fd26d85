"""Warn at the user's own line."""

from __future__ import annotations

import sys
import warnings


def warn(message: str, kind: "type[Warning]" = UserWarning) -> None:
    """Warn at the first line that does not lie in this package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("windlass."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)
