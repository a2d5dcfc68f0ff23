"""The tables of accepted invocations, and of the gateways that own and write them. The reaper deletes."""

from __future__ import annotations

import sqlalchemy as sa

from gpufn.store.tables import metadata
from gpufn.store.types import UtcDateTime

gateways = sa.Table(
    "gateways",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("incarnation", sa.String(36), nullable=False, unique=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
)

invocations = sa.Table(
    "invocations",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("nca_id", sa.String(64), nullable=False),
    sa.Column("function_id", sa.String(36), nullable=False),
    sa.Column("version_id", sa.String(36), nullable=False),
    sa.Column("form", sa.String(8), nullable=False),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("request_key", sa.String(128)),
    sa.Column("request_size", sa.BigInteger, nullable=False),
    sa.Column("window", sa.Integer, nullable=False),
    sa.Column("accepted_at", UtcDateTime, nullable=False),
    sa.Column("deadline", UtcDateTime, nullable=False),
    sa.Column("owner", sa.String(36), nullable=False, index=True),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("lines", sa.LargeBinary, nullable=False),
    sa.Column("result", sa.LargeBinary, nullable=False),
    sa.Column("result_key", sa.String(128)),
    sa.Column("result_size", sa.BigInteger, nullable=False),
    sa.Column("finished_at", UtcDateTime, index=True),
    sa.Column("delivered_at", UtcDateTime, index=True),
)
