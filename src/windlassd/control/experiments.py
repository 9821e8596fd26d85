"""What is said of an experiment beside its runs: tags, whether it is archived; and its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.errors import UserErrorException
from windlassd.control.core import Core
from windlassd.control.submit import check_experiment
from windlassd.store.base import Writer

_LONGEST_KEY, _LONGEST_VALUE = 255, 65_536


class Experiments:
    """Tags, archive and delete experiments."""

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

    async def delete(self, name: str) -> None:
        """Delete an experiment with its runs and their files; models made by them stay.

        Raises:
            Conflict: a run has not ended.
        """
        gone = await self._core.write(lambda tx: tx.delete_experiment(name))
        await asyncio.to_thread(self._remove_folders, gone)

    def _remove_folders(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            root = self._core.folder(run_id).root
            for folder, below, _ in os.walk(root):
                for name in below:
                    if not os.path.islink(os.path.join(folder, name)):
                        os.chmod(os.path.join(folder, name), 0o700)  # scripts leave folders that they may not enter
            if os.path.isdir(root):
                shutil.rmtree(root)
