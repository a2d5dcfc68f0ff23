"""Schema of events, of usage, and of the phases of an instance's start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """The tables of events and usage; a column of phases, empty for instances that exist."""
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("deployment_id", sa.String(length=36), nullable=True),
        sa.Column("instance_id", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("at", "deployment_id", "function_id", "instance_id", "nca_id", "version_id"):
        op.create_index(op.f(f"ix_events_{column}"), "events", [column], unique=False)
    op.add_column("instances", sa.Column("phases", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "usage",
        sa.Column("version_id", sa.String(length=36), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("nca_id", sa.String(length=64), nullable=False),
        sa.Column("function_id", sa.String(length=36), nullable=False),
        sa.Column("instance_seconds", sa.Float(), nullable=False),
        sa.Column("idle_instance_seconds", sa.Float(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(), nullable=False),
        sa.Column("idle_gpu_seconds", sa.Float(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "hour"),
    )
    op.create_index(op.f("ix_usage_nca_id"), "usage", ["nca_id"], unique=False)
