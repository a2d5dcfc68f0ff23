"""Schema of what functions use: secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables of resources."""
    op.create_table(
        "secrets",
        sa.Column("place", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("master", sa.String(length=36), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("place", "name"),
    )
    op.create_index(op.f("ix_secrets_master"), "secrets", ["master"], unique=False)
