"""The tables of a workspace, in SQLAlchemy Core: the same for SQLite and, later, PostgreSQL.

Times are microseconds since 1970 UTC. A run is known by ``runs.seq`` inside the database: it counts up in the order of
creation, so "newest first" is its descending order and every page of a list is one step in an index. What is big and
never changes (the RunSpec) lies beside the run, so that the rows lists walk over stay small.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISION = "0003"
"""The Alembic revision that these tables are; a test holds it equal to the head of ``migrations/``."""

# Conditions of partial indexes. A query must use the same text, or SQLite does not see that the index serves it.
ACTIVE = text("ended IS NULL")
UNVERIFIED = text("ended IS NOT NULL AND NOT verified")
OPEN = text("NOT sealed")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only columns declared INTEGER


def _id(name: str = "id") -> Column[int]:
    return Column(name, _Id, primary_key=True, autoincrement=True)


def _run() -> Column[int]:
    return Column("run_seq", _Id, ForeignKey("runs.seq", ondelete="CASCADE"), nullable=False)


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

experiments = Table(
    "experiments",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("created", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),  # creation of its newest run
    Column("runs", Integer, nullable=False),  # how many there ever were: the next run's number less one
    Column("tags", Text, nullable=False, server_default="{}"),  # JSON
    Column("archived", BigInteger),  # when; NULL while active
    Column("deleted", Integer, nullable=False, server_default="0"),  # of those runs, how many are gone
)

runs = Table(
    "runs",
    metadata,
    _id("seq"),
    Column("id", Text, nullable=False, unique=True),
    Column("experiment_id", _Id, ForeignKey("experiments.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("parent_id", Text),
    Column("request_id", Text, unique=True),
    Column("reason_code", Text),
    Column("reason_message", Text),
    Column("display_name", Text),
    Column("description", Text),
    Column("tags", Text, nullable=False),  # JSON; run_tags is its index
    Column("properties", Text, nullable=False),  # JSON
    Column("environment", Text, nullable=False),  # JSON
    Column("nodes", Text, nullable=False),  # JSON
    Column("exit_code", Integer),
    Column("exit_signal", Text),
    Column("lost_points", BigInteger, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("parts", Text, nullable=False, server_default="[]"),  # JSON
)
Index("ix_runs_experiment_id_status_seq", runs.c.experiment_id, runs.c.status, runs.c.seq)
Index("ix_runs_experiment_id_seq", runs.c.experiment_id, runs.c.seq)
Index("ix_runs_parent_id_seq", runs.c.parent_id, runs.c.seq)
Index("ix_runs_status_seq", runs.c.status, runs.c.seq)
Index("ix_runs_active", runs.c.seq, sqlite_where=ACTIVE, postgresql_where=ACTIVE)
Index("ix_runs_unverified", runs.c.seq, sqlite_where=UNVERIFIED, postgresql_where=UNVERIFIED)

run_specs = Table(
    "run_specs",
    metadata,
    Column("run_seq", _Id, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("spec", Text, nullable=False),  # JSON
)

run_tags = Table(
    "run_tags",
    metadata,
    Column("run_seq", _Id, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("ix_run_tags_key_value_run_seq", run_tags.c.key, run_tags.c.value, run_tags.c.run_seq)
Index("ix_run_tags_key_run_seq", run_tags.c.key, run_tags.c.run_seq)

run_history = Table(
    "run_history",
    metadata,
    _id(),
    _run(),
    Column("time", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason_code", Text),
    Column("reason_message", Text),
    Index("ix_run_history_run_seq", "run_seq"),
)

run_files = Table(
    "run_files",
    metadata,
    Column("run_seq", _Id, ForeignKey("runs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text),
)

spools = Table(
    "spools",
    metadata,
    _id(),
    _run(),
    Column("name", Text, nullable=False),
    Column("acked", BigInteger, nullable=False),  # bytes of the file whose frames are in the store
    Column("batches", Integer, nullable=False),
    Column("last_us", BigInteger, nullable=False),  # latest time seen in it
    UniqueConstraint("run_seq", "name"),
)

series = Table(
    "series",
    metadata,
    _id(),
    _run(),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),  # int, float, json; or none: named and without a point yet
    Column("length", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("last_step", BigInteger),
    Column("last", Text),  # JSON
    Column("minimum", Float(53)),
    Column("maximum", Float(53)),
    UniqueConstraint("run_seq", "name"),
)
Index("ix_series_name_run_seq", series.c.name, series.c.run_seq)

spool_series = Table(
    "spool_series",
    metadata,
    Column("spool_id", _Id, ForeignKey("spools.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # the spool file's own number of the series
    Column("series_id", _Id, ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
)

Index("ix_spool_series_series_id", spool_series.c.series_id)  # likewise the end of a series

chunks = Table(
    "chunks",
    metadata,
    _id(),
    Column("series_id", _Id, ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    Column("spool_id", _Id, ForeignKey("spools.id", ondelete="CASCADE"), nullable=False),
    Column("sealed", Boolean, nullable=False),
    Column("length", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),  # of specs.spool: FLOAT, INT or JSON; see _chunks.py
    Column("times", LargeBinary, nullable=False),
    Column("steps", LargeBinary),
    Column("points", LargeBinary, nullable=False),
)
Index("ix_chunks_series_id_spool_id", chunks.c.series_id, chunks.c.spool_id)
Index("ix_chunks_open", chunks.c.spool_id, sqlite_where=OPEN, postgresql_where=OPEN)

Index("ix_chunks_spool_id", chunks.c.spool_id)  # else the end of a spool would read all chunks there are

# The points of a sealed chunk that a chart needs, packed like the chunk's own; none for kind JSON.
outlines = Table(
    "outlines",
    metadata,
    Column("chunk_id", _Id, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("length", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("times", LargeBinary, nullable=False),
    Column("steps", LargeBinary),
    Column("points", LargeBinary, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("files", Text, nullable=False),  # JSON
    Column("created", BigInteger, nullable=False),
)

clusters = Table(
    "clusters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec", Text, nullable=False),  # JSON
    Column("created", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False),
)

models = Table(
    "models",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("run_id", Text),
    Column("path", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON
    Column("properties", Text, nullable=False),  # JSON
    Column("description", Text),
    Column("framework", Text),
    Column("framework_version", Text),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("snapshot_id", Text),
    Column("environment_key", Text),
    Column("files", Text, nullable=False),  # JSON
    Column("created_by", Text),
    Column("datasets", Text, nullable=False),  # JSON
    Column("sample_input", Text),
    Column("sample_output", Text),
    Column("resources", Text, nullable=False),  # JSON
    Column("request_id", Text, unique=True),
    UniqueConstraint("name", "version"),
    Index("ix_models_run_id", "run_id"),
)

model_names = Table(
    "model_names",
    metadata,
    Column("name", Text, primary_key=True),
    Column("last", Integer, nullable=False),  # highest version there ever was: a deleted one's is not given again
)

environments = Table(
    "environments",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("definition", Text, nullable=False),  # JSON, as the client wrote it
    Column("sha256", Text, nullable=False),  # of the definition: a new version needs another
    UniqueConstraint("name", "version"),
)

environment_labels = Table(
    "environment_labels",
    metadata,
    Column("name", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("version", Text, nullable=False),
)

datastores = Table(
    "datastores",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    _id("seq"),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text),
    Column("version", Integer),
    Column("kind", Text, nullable=False),
    Column("definition", Text, nullable=False),  # JSON
    Column("description", Text),
    Column("tags", Text, nullable=False),  # JSON
    Column("run_id", Text),
    Column("created", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False),
    UniqueConstraint("name", "version"),
)

# What a record was deleted from and still lies on disk: written with the deletion, removed once it is freed.
deletions = Table(
    "deletions",
    metadata,
    _id(),
    Column("kind", Text, nullable=False),  # of base.py: RUN, SNAPSHOT or BLOBS
    Column("what", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Index("ix_deletions_kind_what", "kind", "what"),
)
