from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from windlassd.store.sql import SqlStore
from windlassd.testing.dataset_suite import DatasetSuite


class TestSqlDatasets(DatasetSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        opened = SqlStore.open(str(tmp_path))
        yield opened
        opened.close()
