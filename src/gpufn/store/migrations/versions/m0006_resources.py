"""Schema of what functions use: secrets, telemetry endpoints, registry credentials."""

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
    op.create_table(
        "telemetries",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("nca_id", "name", name=op.f("uq_telemetries_nca_id_name")),
    )
    op.create_index(op.f("ix_telemetries_nca_id"), "telemetries", ["nca_id"], unique=False)
    op.create_table(
        "telemetry_uses",
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("telemetry_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "telemetry_id"),
    )
    op.create_index(op.f("ix_telemetry_uses_telemetry_id"), "telemetry_uses", ["telemetry_id"], unique=False)
    op.create_table(
        "registry_credentials",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("hostname", sa.String(length=253), nullable=False),
        sa.Column("artifact_types", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("provisioned_by", sa.String(length=16), nullable=False),
        sa.Column("legacy_key", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("nca_id", "hostname", "name", name=op.f("uq_registry_credentials_nca_id_hostname_name")),
    )
    op.create_index(op.f("ix_registry_credentials_nca_id"), "registry_credentials", ["nca_id"], unique=False)
    op.create_index("ix_versions_function_id_nca_id", "versions", ["function_id", "nca_id"], unique=False)
