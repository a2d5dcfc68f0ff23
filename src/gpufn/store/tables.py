"""Every table. One writer per column: the table in docs/architecture.md says which."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from gpufn.model.access import Resource
from gpufn.model.deployment import Autoscaling, DeploymentWanted, Placement
from gpufn.model.event import EventKind
from gpufn.model.function import Definition, RateLimit
from gpufn.model.instance import Address, Failure, InstanceStatus
from gpufn.model.registry import ArtifactType, Provisioner
from gpufn.model.startup import Mark
from gpufn.model.telemetry import TelemetryProtocol, TelemetryProvider, TelemetryType
from gpufn.store.types import JsonOf, UtcDateTime

metadata = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)


def _enum(kind: type[StrEnum], length: int = 16) -> sa.Enum:
    return sa.Enum(kind, native_enum=False, length=length, values_callable=lambda members: [m.value for m in members])


accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("nca_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("max_functions", sa.Integer),
    sa.Column("max_tasks", sa.Integer),
    sa.Column("max_telemetries", sa.Integer, nullable=False, server_default="25"),
    sa.Column("max_registry_credentials", sa.Integer, nullable=False, server_default="25"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime),
)

clients = sa.Table(
    "clients",
    metadata,
    sa.Column("issuer", sa.String(512), primary_key=True),
    sa.Column("client_id", sa.String(128), primary_key=True),
    sa.Column("nca_id", sa.String(64), sa.ForeignKey("accounts.nca_id"), nullable=False, index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("function_id", sa.String(36), nullable=False, index=True),
    sa.Column("nca_id", sa.String(64), sa.ForeignKey("accounts.nca_id"), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("definition", JsonOf(Definition), nullable=False),
    sa.Column("tags", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("rate_limit", JsonOf(RateLimit)),
    sa.Column("llm_invocation", sa.JSON(none_as_null=True)),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    # Without it SQLite reads every version of the account to find those of one function.
    sa.Index("ix_versions_function_id_nca_id_created_at_id", "function_id", "nca_id", "created_at", "id"),
    # Lists go on behind the last element of a page.
    sa.Index("ix_versions_nca_id_created_at_id", "nca_id", "created_at", "id"),
)

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("version_id", sa.String(36), sa.ForeignKey("versions.id"), nullable=False, unique=True),
    sa.Column("function_id", sa.String(36), nullable=False, index=True),
    sa.Column("nca_id", sa.String(64), nullable=False, index=True),
    sa.Column("wanted", _enum(DeploymentWanted), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("activated_at", UtcDateTime),
    sa.Column("failed_at", UtcDateTime),
    sa.Column("failure", sa.Text),
    sa.Column("revision", sa.Integer, nullable=False),
)

gpu_specifications = sa.Table(
    "gpu_specifications",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "deployment_id", sa.String(36), sa.ForeignKey("deployments.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("gpu", sa.String(64), nullable=False),
    sa.Column("instance_type", sa.String(128), nullable=False),
    sa.Column("min_instances", sa.Integer, nullable=False),
    sa.Column("max_instances", sa.Integer, nullable=False),
    sa.Column("max_request_concurrency", sa.Integer, nullable=False),
    sa.Column("preferred_order", sa.Integer, nullable=False),
    sa.Column("placement", JsonOf(Placement), nullable=False),
    sa.Column("autoscaling", JsonOf(Autoscaling)),
    sa.Column("desired", sa.Integer, nullable=False),
    sa.Column("desired_reason", sa.Text, nullable=False),
)

# An instance outlives its deployment while it drains, so nothing here is a foreign key.
instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("deployment_id", sa.String(36), nullable=False, index=True),
    sa.Column("specification_id", sa.String(36), nullable=False),
    sa.Column("version_id", sa.String(36), nullable=False, index=True),
    sa.Column("function_id", sa.String(36), nullable=False),
    sa.Column("nca_id", sa.String(64), nullable=False),
    sa.Column("gpu", sa.String(64), nullable=False),
    sa.Column("instance_type", sa.String(128), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("wanted", sa.Boolean, nullable=False),
    sa.Column("status", _enum(InstanceStatus), nullable=False, index=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("address", JsonOf(Address)),
    sa.Column("failure", JsonOf(Failure)),
    sa.Column("ready_at", UtcDateTime),
    sa.Column("unhealthy_at", UtcDateTime),
    sa.Column("draining_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime, index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("phases", JsonOf(tuple[Mark, ...]), nullable=False, server_default="[]"),
    sa.Column("cluster_id", sa.String(36), nullable=False, server_default=""),
)

# Usage outlives what used it, so nothing here is a foreign key.
usage = sa.Table(
    "usage",
    metadata,
    sa.Column("version_id", sa.String(36), primary_key=True),
    sa.Column("hour", UtcDateTime, primary_key=True),
    sa.Column("nca_id", sa.String(64), nullable=False, index=True),
    sa.Column("function_id", sa.String(36), nullable=False),
    sa.Column("instance_seconds", sa.Float, nullable=False),
    sa.Column("idle_instance_seconds", sa.Float, nullable=False),
    sa.Column("gpu_seconds", sa.Float, nullable=False),
    sa.Column("idle_gpu_seconds", sa.Float, nullable=False),
    sa.Column("requests", sa.Integer, nullable=False),
)

# Events outlive what they tell of, so nothing here is a foreign key. The id orders them.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
    sa.Column("kind", _enum(EventKind, 32), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("nca_id", sa.String(64), nullable=False, index=True),
    sa.Column("function_id", sa.String(36), nullable=False, index=True),
    sa.Column("version_id", sa.String(36), nullable=False, index=True),
    sa.Column("deployment_id", sa.String(36), index=True),
    sa.Column("instance_id", sa.String(36), index=True),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("prefix", sa.String(16), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("nca_id", sa.String(64), sa.ForeignKey("accounts.nca_id"), nullable=False, index=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("scopes", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("resources", JsonOf(tuple[Resource, ...]), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("issuer", sa.String(64), nullable=False, server_default=""),
    sa.Column("audiences", JsonOf(tuple[str, ...]), nullable=False, server_default="[]"),
    sa.Column("authorizations", sa.JSON(none_as_null=True)),
    sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("owner_suspended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("changed_at", UtcDateTime),
    sa.Index("ix_keys_owner", "nca_id", "owner"),
)

key_owners = sa.Table(
    "key_owners",
    metadata,
    sa.Column("nca_id", sa.String(64), sa.ForeignKey("accounts.nca_id"), primary_key=True),
    sa.Column("owner", sa.String(128), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("updated_at", UtcDateTime),
)

# Appended to, never changed: see model/audit.py.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("nca_id", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(128), nullable=False),
    sa.Column("key_id", sa.String(36), nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("path", sa.String(512), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)

# Who else may invoke a function; version_id is empty for what holds for all of its versions.
authorizations = sa.Table(
    "authorizations",
    metadata,
    sa.Column("function_id", sa.String(36), primary_key=True),
    sa.Column("version_id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), primary_key=True, index=True),
    sa.Column("position", sa.Integer, nullable=False),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("place", sa.String(256), primary_key=True),
    sa.Column("name", sa.String(48), primary_key=True),
    sa.Column("master", sa.String(36), nullable=False, index=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), nullable=False, index=True),
    sa.Column("content_type", sa.String(255), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("uploaded_at", UtcDateTime),
)

telemetries = sa.Table(
    "telemetries",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(48), nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("protocol", _enum(TelemetryProtocol), nullable=False),
    sa.Column("provider", _enum(TelemetryProvider), nullable=False),
    sa.Column("types", JsonOf(tuple[TelemetryType, ...]), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("nca_id", "name"),
)

telemetry_uses = sa.Table(
    "telemetry_uses",
    metadata,
    sa.Column("version_id", sa.String(36), primary_key=True),
    sa.Column("telemetry_id", sa.String(36), primary_key=True, index=True),
)

registry_credentials = sa.Table(
    "registry_credentials",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(48), nullable=False),
    sa.Column("hostname", sa.String(253), nullable=False),
    sa.Column("artifact_types", JsonOf(tuple[ArtifactType, ...]), nullable=False),
    sa.Column("tags", JsonOf(tuple[str, ...]), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("provisioned_by", _enum(Provisioner), nullable=False),
    sa.Column("legacy_key", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("nca_id", "hostname", "name"),
)
