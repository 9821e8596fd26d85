"""What is said of an experiment beside its runs: tags, and whether it is archived."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from windlass.errors import UserErrorException
from windlassd.control.core import Core
from windlassd.control.submit import check_experiment
from windlassd.store.base import Writer

_LONGEST_KEY, _LONGEST_VALUE = 255, 65_536


class Experiments:
    """Tag and archive experiments."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def patch(self, name: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Set and remove tags, archive or bring back; an experiment without runs is made."""
        check_experiment(name)
        for key, value in (changes.get("tags") or {}).items():
            if not key or len(key) > _LONGEST_KEY or len(str(value)) > _LONGEST_VALUE:
                raise UserErrorException(
                    f"The tag {key[:60]!r} cannot be kept: its name needs 1 to {_LONGEST_KEY} characters, its value at "
                    f"most {_LONGEST_VALUE}."
                )

        def work(tx: Writer) -> Mapping[str, Any]:
            now = time.time()
            known = tx.find_experiment(name) or {"tags": {}, "archived": None}
            columns: dict[str, Any] = {}
            if changes.get("tags") or changes.get("remove_tags"):
                gone = set(changes.get("remove_tags") or ())
                kept = {key: value for key, value in known["tags"].items() if key not in gone}
                columns["tags"] = {**kept, **(changes.get("tags") or {})}
            if "archived" in changes and changes["archived"] != (known["archived"] is not None):
                columns["archived"] = now if changes["archived"] else None
            return tx.update_experiment(name, now, **columns)

        return {"name": name, **await self._core.write(work)}
