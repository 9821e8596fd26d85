"""The parts of runs that an agent has taken and not cleared up yet, by name on disk: what a killed one leaves behind.

The server tells a new agent of parts that have not ended. One whose end it knows already, and whose folder nobody
cleared up because the agent was killed in between, only this ledger tells of.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Set as AbstractSet

from windlass.specs.launch import PartKey

log = logging.getLogger(__name__)
_NAME = re.compile(r"(.+)\.(\d+)\.(\d+)", re.DOTALL)


class Ledger:
    """An empty file ``ID.ATTEMPT.RANK`` per part in ``folder``. Thread-safe; on a full disk it only knows less."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def add(self, key: PartKey) -> None:
        """Note a part before anything of it is made."""
        try:
            os.close(os.open(os.path.join(self._folder, _name(key)), os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as problem:
            log.warning("%s cannot be noted: %s", key[0], problem)

    def remove(self, key: PartKey) -> None:
        """Strike out a part that is cleared up, or whose folder has to stay as it is."""
        run_id, attempt, rank = key
        for name in (_name(key), run_id if (attempt, rank) == (1, 0) else ""):  # the second as agents before noted it
            try:
                if name:
                    os.unlink(os.path.join(self._folder, name))
            except FileNotFoundError:
                pass
            except OSError as problem:
                log.warning("%s cannot be struck out: %s", run_id, problem)

    def parts(self) -> AbstractSet[PartKey]:
        """The parts that are noted; agents of protocol 3 and before noted just the run's id."""
        return {_key(name) for name in os.listdir(self._folder)}


def _name(key: PartKey) -> str:
    return f"{key[0]}.{key[1]}.{key[2]}"


def _key(name: str) -> PartKey:
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2]), int(found[3])) if found else (name, 1, 0)
