"""v1's telemetry switch. Windlass sends nothing anywhere, so there is nothing to switch."""

from __future__ import annotations


def set_diagnostics_collection(send_diagnostics: bool = True, verbosity: object = None, reason: str = "") -> None:
    """Accept v1's call: nothing is collected either way."""
