"""The table of clusters."""

from __future__ import annotations

import sqlalchemy as sa

from gpufn.model.cluster import ClusterKind, ClusterMode, Connection, Gpu
from gpufn.store.tables import metadata
from gpufn.store.types import JsonOf, UtcDateTime


def _enum(kind: type[ClusterKind | ClusterMode]) -> sa.Enum:
    return sa.Enum(kind, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members])


# Instances and tasks name their cluster by id and may outlive its row, so nothing refers to it by a foreign key.
clusters = sa.Table(
    "clusters",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("group_id", sa.String(36), nullable=False),
    sa.Column("group_name", sa.String(64), nullable=False),
    sa.Column("kind", _enum(ClusterKind), nullable=False),
    sa.Column("provider", sa.String(16), nullable=False),
    sa.Column("region", sa.String(64), nullable=False),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("gpus", JsonOf(tuple[Gpu, ...]), nullable=False),
    sa.Column("authorized", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("attributes", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("custom_attributes", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("connection", JsonOf(Connection)),
    sa.Column("stands_for_any", sa.Boolean, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("mode", _enum(ClusterMode), nullable=False),
    sa.Column("mode_at", UtcDateTime),
    sa.Column("seen_at", UtcDateTime),
    sa.Column("failing_at", UtcDateTime),
    sa.Column("lost_at", UtcDateTime),
    sa.Column("problem", sa.Text, nullable=False),
    sa.UniqueConstraint("nca_id", "name"),
)
