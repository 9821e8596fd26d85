"""Which attempt at a run is under way, and what is known of its nodes' parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Runs of before had one attempt on one node, of which their row tells all."""
    op.add_column("runs", sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("runs", sa.Column("parts", sa.Text(), nullable=False, server_default="[]"))
