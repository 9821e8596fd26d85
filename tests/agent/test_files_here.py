"""On the server's own machine nothing is sent; the server hears that files grew, and their checksums at the end."""

from __future__ import annotations

import hashlib
import os
from typing import Any, cast

import pytest

from windlassd.agent import files_here
from windlassd.agent.files_here import FilesHere
from windlassd.agent.ship import Shipper
from windlassd.agent.tail import Grew
from windlassd.blobs.run_folder import RunFolder

KEY = ("run_1", 1, 0)


class Told:
    def __init__(self) -> None:
        self.grown: list[Any] = []

    def grew(self, key: Any, kind: Grew) -> None:
        self.grown.append(kind)

    def logs_grew(self, key: Any, folder: RunFolder) -> None:
        self.grown.append(folder)


def test_checksums_come_when_they_take_no_time(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    files = FilesHere(cast(Shipper, told))
    files.open(KEY, folder)
    files.grew(KEY, Grew.LOGS)
    files.ended(KEY)
    assert told.grown == [Grew.LOGS, folder]
    with open(os.path.join(folder.files, "azureml-logs", "70_driver_log.txt"), "wb") as log:
        log.write(b"printed")
    (kept,) = files.bring_home(KEY).files
    assert kept["size"] == 7 and kept["sha256"] == hashlib.sha256(b"printed").hexdigest()
    monkeypatch.setattr(files_here, "_HASHED_AT_ONCE", 3)
    (kept,) = files.bring_home(KEY).files
    assert "sha256" not in kept and files.make_durable(KEY)
    files.close(KEY)
