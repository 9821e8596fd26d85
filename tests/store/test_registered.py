"""The registered things of the SQL store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from windlassd.store.sql import SqlStore
from windlassd.testing.registered_suite import RegisteredConformance


class TestSqlStore(RegisteredConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        opened = SqlStore.open(str(tmp_path))
        yield opened
        opened.close()
