"""Indexes for lists of versions in the order of their creation, in place of those that they include."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Exchange the indexes."""
    op.create_index("ix_versions_nca_id_created_at_id", "versions", ["nca_id", "created_at", "id"])
    op.drop_index("ix_versions_nca_id", "versions")
    name = "ix_versions_function_id_nca_id"
    op.create_index(f"{name}_created_at_id", "versions", ["function_id", "nca_id", "created_at", "id"])
    op.drop_index(name, "versions")
