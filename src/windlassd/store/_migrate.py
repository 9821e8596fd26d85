"""Bring a database to the tables of this version."""

from __future__ import annotations

import os

from sqlalchemy import inspect
from sqlalchemy.engine import Connection

from windlassd.store.base import StoreError
from windlassd.store.schema import REVISION, metadata

MIGRATIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "migrations")


def bring_up_to_date(connection: Connection, path: str) -> None:
    """Make the tables of an empty database, or run the migrations that an older one lacks, within one transaction.

    Alembic is imported only where there is something to migrate: it costs more than all the rest of opening.

    Raises:
        StoreError: The database comes from a newer version.
    """
    inspector = inspect(connection)
    if not inspector.has_table("alembic_version"):
        if inspector.get_table_names():
            raise StoreError(f"{path} is a database, but not one of Windlass. Move it away or choose another folder.")
        runs = os.path.join(os.path.dirname(path), "runs")
        if os.path.isdir(runs) and os.listdir(runs):
            raise StoreError(
                f"{path} is missing or empty, but {len(os.listdir(runs))} runs lie in {runs}. Bring the database back "
                "or move that folder away to begin anew."
            )
        metadata.create_all(connection)
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{REVISION}')")
        return
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if found != REVISION:
        upgrade(connection, path)


def revisions() -> frozenset[str]:
    """The revisions that this version can bring up to date, and its own."""
    names = os.listdir(os.path.join(MIGRATIONS, "versions"))
    return frozenset(name.partition("_")[0] for name in names if name[0].isdigit() and name.endswith(".py"))


def upgrade(connection: Connection, path: str) -> None:
    """Run the migrations that the database lacks on ``connection``."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", MIGRATIONS.replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as problem:
        raise StoreError(
            f"The database {path} was written by another version of Windlass and does not fit this one ({problem})."
            " Upgrade Windlass: `pip install --upgrade windlass`."
        ) from problem
