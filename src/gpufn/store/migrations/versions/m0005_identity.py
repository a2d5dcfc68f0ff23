"""Schema of identity: accounts and clients, what the key service keeps, the audit log, and sharing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add to the accounts, and create the tables."""
    op.add_column("accounts", sa.Column("max_tasks", sa.Integer(), nullable=True))
    op.add_column("accounts", sa.Column("max_telemetries", sa.Integer(), nullable=False, server_default="25"))
    op.add_column("accounts", sa.Column("max_registry_credentials", sa.Integer(), nullable=False, server_default="25"))
    op.add_column("accounts", sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "clients",
        sa.Column("client_id", sa.String(length=128), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["nca_id"], ["accounts.nca_id"]),
        sa.PrimaryKeyConstraint("client_id"),
    )
    op.create_index("ix_clients_nca_id", "clients", ["nca_id"])
    op.add_column("keys", sa.Column("issuer", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("keys", sa.Column("audiences", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("keys", sa.Column("authorizations", sa.JSON(), nullable=True))
    op.add_column("keys", sa.Column("suspended", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("keys", sa.Column("owner_suspended", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("keys", sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_keys_owner", "keys", ["nca_id", "owner"])
    op.create_table(
        "key_owners",
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["nca_id"], ["accounts.nca_id"]),
        sa.PrimaryKeyConstraint("nca_id", "owner"),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("seal", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "authorizations",
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("function_id", "version_id", "nca_id"),
    )
    op.create_index("ix_authorizations_nca_id", "authorizations", ["nca_id"])
