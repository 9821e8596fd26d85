"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables of 0.1."""
    op.create_table(
        "clusters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("modified", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_clusters")),
    )
    op.create_table(
        "datasets",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("modified", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_datasets")),
        sa.UniqueConstraint("id", name=op.f("uq_datasets_id")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_datasets_name_version")),
    )
    op.create_table(
        "datastores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datastores")),
    )
    op.create_table(
        "experiments",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("tags", sa.Text(), server_default="{}", nullable=False),
        sa.Column("archived", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("name", name=op.f("uq_experiments_name")),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "models",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("framework", sa.Text(), nullable=True),
        sa.Column("framework_version", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=True),
        sa.Column("environment_key", sa.Text(), nullable=True),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("datasets", sa.Text(), nullable=False),
        sa.Column("sample_input", sa.Text(), nullable=True),
        sa.Column("sample_output", sa.Text(), nullable=True),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_models_name_version")),
        sa.UniqueConstraint("request_id", name=op.f("uq_models_request_id")),
    )
    op.create_index("ix_models_run_id", "models", ["run_id"], unique=False)
    op.create_table(
        "model_names",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_model_names")),
    )
    op.create_table(
        "environments",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_environments_name_version")),
    )
    op.create_table(
        "environment_labels",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_environment_labels")),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "runs",
        sa.Column("seq", _ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("experiment_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason_message", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Text(), nullable=True),
        sa.Column("lost_points", sa.BigInteger(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_runs_experiment_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
        sa.UniqueConstraint("request_id", name=op.f("uq_runs_request_id")),
    )
    op.create_index(
        "ix_runs_active",
        "runs",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("ended IS NULL"),
        postgresql_where=sa.text("ended IS NULL"),
    )
    op.create_index(
        "ix_runs_unverified",
        "runs",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("ended IS NOT NULL AND NOT verified"),
        postgresql_where=sa.text("ended IS NOT NULL AND NOT verified"),
    )
    op.create_index("ix_runs_experiment_id_seq", "runs", ["experiment_id", "seq"], unique=False)
    op.create_index("ix_runs_experiment_id_status_seq", "runs", ["experiment_id", "status", "seq"], unique=False)
    op.create_index("ix_runs_parent_id_seq", "runs", ["parent_id", "seq"], unique=False)
    op.create_index("ix_runs_status_seq", "runs", ["status", "seq"], unique=False)
    op.create_table(
        "run_files",
        sa.Column("run_seq", _ID, autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_run_files_run_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_seq", "path", name=op.f("pk_run_files")),
    )
    op.create_table(
        "run_history",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("run_seq", _ID, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason_message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_run_history_run_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_history")),
    )
    op.create_index("ix_run_history_run_seq", "run_history", ["run_seq"], unique=False)
    op.create_table(
        "run_specs",
        sa.Column("run_seq", _ID, autoincrement=False, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_run_specs_run_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_seq", name=op.f("pk_run_specs")),
    )
    op.create_table(
        "run_tags",
        sa.Column("run_seq", _ID, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_run_tags_run_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_seq", "key", name=op.f("pk_run_tags")),
    )
    op.create_index("ix_run_tags_key_run_seq", "run_tags", ["key", "run_seq"], unique=False)
    op.create_index("ix_run_tags_key_value_run_seq", "run_tags", ["key", "value", "run_seq"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("run_seq", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("last", sa.Text(), nullable=True),
        sa.Column("minimum", sa.Float(precision=53), nullable=True),
        sa.Column("maximum", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_series_run_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("run_seq", "name", name=op.f("uq_series_run_seq_name")),
    )
    op.create_table(
        "spools",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("run_seq", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.Column("batches", sa.Integer(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_seq"], ["runs.seq"], name=op.f("fk_spools_run_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spools")),
        sa.UniqueConstraint("run_seq", "name", name=op.f("uq_spools_run_seq_name")),
    )
    op.create_table(
        "chunks",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("series_id", _ID, nullable=False),
        sa.Column("spool_id", _ID, nullable=False),
        sa.Column("sealed", sa.Boolean(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("steps", sa.LargeBinary(), nullable=True),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_chunks_series_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["spool_id"], ["spools.id"], name=op.f("fk_chunks_spool_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
    )
    op.create_index(
        "ix_chunks_open",
        "chunks",
        ["spool_id"],
        unique=False,
        sqlite_where=sa.text("NOT sealed"),
        postgresql_where=sa.text("NOT sealed"),
    )
    op.create_index("ix_chunks_series_id_spool_id", "chunks", ["series_id", "spool_id"], unique=False)
    op.create_table(
        "spool_series",
        sa.Column("spool_id", _ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("series_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_spool_series_series_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["spool_id"], ["spools.id"], name=op.f("fk_spool_series_spool_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("spool_id", "number", name=op.f("pk_spool_series")),
    )
