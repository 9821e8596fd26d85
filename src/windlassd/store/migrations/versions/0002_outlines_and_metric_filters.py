"""Outlines of sealed chunks, and an index for runs by metric.

Outlines of chunks that were sealed before stay absent: their points are read instead, so that nothing but the index is
computed here and a big database is migrated in a moment.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what 0.2 has beside the first tables."""
    op.create_table(
        "outlines",
        sa.Column("chunk_id", _ID, autoincrement=False, nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("steps", sa.LargeBinary(), nullable=True),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], name=op.f("fk_outlines_chunk_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chunk_id", name=op.f("pk_outlines")),
    )
    op.create_index("ix_series_name_run_seq", "series", ["name", "run_seq"])
    op.add_column("experiments", sa.Column("deleted", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_spool_series_series_id", "spool_series", ["series_id"])
    op.create_index("ix_chunks_spool_id", "chunks", ["spool_id"])
    op.create_table(
        "deletions",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletions")),
    )
    op.create_index("ix_deletions_kind_what", "deletions", ["kind", "what"])
