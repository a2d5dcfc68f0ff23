"""Clients are known by their issuer too: one name in two issuers' tokens is two clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table anew, for a primary key cannot be changed. Who is known stays, as this installation's."""
    op.rename_table("clients", "clients_before")
    op.drop_index("ix_clients_nca_id", "clients_before")
    op.create_table(
        "clients",
        sa.Column("issuer", sa.String(length=512), nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["nca_id"], ["accounts.nca_id"]),
        sa.PrimaryKeyConstraint("issuer", "client_id"),
    )
    op.create_index("ix_clients_nca_id", "clients", ["nca_id"])
    op.execute(
        "INSERT INTO clients (issuer, client_id, nca_id, created_at) "
        "SELECT '', client_id, nca_id, created_at FROM clients_before"
    )
    op.drop_table("clients_before")
