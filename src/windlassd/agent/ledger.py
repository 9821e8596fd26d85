"""The runs that an agent has taken and not cleared up yet, by name on disk: what a killed one leaves to its successor.

The server tells a new agent of runs that have not ended. A run whose end it knows already, and whose folder nobody
cleared up because the agent was killed in between, only this ledger tells of.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

log = logging.getLogger(__name__)


class Ledger:
    """An empty file per run id in ``folder``. Thread-safe; on a full disk it only knows less."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def add(self, run_id: str) -> None:
        """Note a run before anything of it is made."""
        try:
            os.close(os.open(os.path.join(self._folder, run_id), os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as problem:
            log.warning("%s cannot be noted: %s", run_id, problem)

    def remove(self, run_id: str) -> None:
        """Strike out a run that is cleared up, or whose folder has to stay as it is."""
        try:
            os.unlink(os.path.join(self._folder, run_id))
        except FileNotFoundError:
            pass
        except OSError as problem:
            log.warning("%s cannot be struck out: %s", run_id, problem)

    def runs(self) -> Sequence[str]:
        """Ids of the runs that are noted."""
        return sorted(os.listdir(self._folder))
