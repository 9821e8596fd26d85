"""What the database driver raises, as the errors of this room."""

from __future__ import annotations

import sqlite3

from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.event import listens_for

from windlassd.store._holders import holders
from windlassd.store.base import StoreError, StoreFull

_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
# What the disk said is not told with a failed write: a quota and a file size limit look like a failing disk.
_UNWRITABLE = frozenset({"SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_TRUNCATE"})
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_BUGS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


def translate(problem: BaseException, path: str) -> StoreError | None:
    """The error of the store for ``problem`` of the database at ``path``; None for what the caller must see itself.

    Broken constraints are for the statement that broke them to explain, and misuse of the driver is a bug of ours.
    """
    if not isinstance(problem, sqlite3.Error) or isinstance(problem, _BUGS):
        return None
    name = getattr(problem, "sqlite_errorname", None) or ""
    if name in _NO_ROOM:
        return StoreFull(
            f"No room to write the database {path} ({problem}): the disk is full, or a quota or file size limit is"
            " reached. Nothing was changed; free some space and try again."
        )
    if name in _UNWRITABLE:
        return StoreFull(
            f"No room to write the database {path} ({problem}), or its disk is read-only or failing (`dmesg` tells); a"
            " quota or file size limit may be reached. Nothing was changed; free some space and try again."
        )
    if name.startswith("SQLITE_READONLY"):
        error = StoreError(
            f"The database {path} cannot be written ({problem}): its disk is read-only, or its files are another"
            " user's. Nothing was changed; make them writable and try again."
        )
        error.transient = True
        return error
    if name.startswith(_LOCKED):
        error = StoreError(
            f"The database {path} is locked by {holders(path) or 'another program'} ({problem}). Close what has it"
            " open, such as a database browser or a backup, and try again. What jobs log meanwhile is kept and comes in"
            " later."
        )
        error.transient = True
        return error
    if name.startswith(_DAMAGED):
        return StoreError(
            f"The database {path} is damaged or is not a Windlass database ({problem}). Stop the server, then put a"
            " backup in its place (`windlass workspace restore`), or see with `windlass doctor` what is damaged: with"
            " --repair it saves every row that can be read into a new database."
        )
    return StoreError(f"The database {path} failed: {problem} ({name or 'no code'}). See the server's log.")


def translate_errors(engine: Engine, path: str) -> None:
    """Make ``engine`` raise StoreError instead of the driver's errors."""

    @listens_for(engine, "handle_error")
    def _(context: ExceptionContext) -> BaseException | None:
        return translate(context.original_exception, path)
