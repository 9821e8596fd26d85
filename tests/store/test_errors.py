"""Every error of the driver comes out as one of the store's, but for those that are the caller's to explain."""

from __future__ import annotations

import sqlite3

import pytest

from windlassd.store._errors import translate
from windlassd.store.base import StoreError, StoreFull

_CODES = sorted(
    name for name in vars(sqlite3) if name.startswith("SQLITE_") and isinstance(getattr(sqlite3, name), int)
)


def _error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("went wrong")
    error.sqlite_errorname = name
    return error


def test_every_code_is_an_error_of_the_store_with_its_file() -> None:
    assert len(_CODES) > 50
    for name in _CODES:
        error = translate(_error(name), "/w/windlass.db")
        assert isinstance(error, StoreError), name
        assert "/w/windlass.db" in str(error) and "went wrong" in str(error)


@pytest.mark.parametrize(
    ("name", "kind", "transient", "advice"),
    [
        ("SQLITE_FULL", StoreFull, True, "free some space"),
        ("SQLITE_IOERR_WRITE", StoreFull, True, "quota"),
        ("SQLITE_READONLY_DIRECTORY", StoreError, True, "make them writable"),
        ("SQLITE_BUSY", StoreError, True, "another program"),
        ("SQLITE_BUSY_SNAPSHOT", StoreError, True, "another program"),
        ("SQLITE_CORRUPT_INDEX", StoreError, False, "backup"),
        ("SQLITE_NOTADB", StoreError, False, "backup"),
        ("SQLITE_IOERR_READ", StoreError, False, "log"),
    ],
)
def test_the_message_says_what_to_do(name: str, kind: type[StoreError], transient: bool, advice: str) -> None:
    error = translate(_error(name), "/w/windlass.db")
    assert (type(error), error is not None and error.transient) == (kind, transient)
    assert advice in str(error)


def test_what_is_not_the_databases_fault_stays_as_it_is() -> None:
    assert translate(sqlite3.IntegrityError("UNIQUE"), "x") is None
    assert translate(KeyError("x"), "x") is None
