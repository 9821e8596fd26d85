"""Who holds a database is told by name and number, and nobody is told for nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from windlassd.store._holders import holders

_HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("BEGIN EXCLUSIVE")
print(1)
sys.stdin.read()
"""


def test_the_process_that_holds_it(tmp_path: Path) -> None:
    for mode in ("DELETE", "WAL"):
        path = str(tmp_path / mode)
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA journal_mode={mode}")
            db.execute("CREATE TABLE t (x)")
            db.commit()
            assert holders(path) == ""
            command = [sys.executable, "-u", "-c", _HOLD, path]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
                assert other.stdout and other.stdout.readline() == b"1\n"
                assert holders(path).endswith(f"(process {other.pid})") and holders(path).startswith("python")
                other.kill()
            assert holders(path) == ""


def test_our_own_lock_is_nobody_elses(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert holders(str(tmp_path / "x")) == ""
    assert holders(str(tmp_path / "absent")) == ""
