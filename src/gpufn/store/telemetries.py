"""Telemetry endpoints, and which versions use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from gpufn.model.errors import NotFound
from gpufn.model.telemetry import Telemetry, TelemetryChoice, TelemetryType
from gpufn.store.tables import telemetries as table, telemetry_uses as uses


def insert(tx: sa.Connection, telemetry: Telemetry) -> None:
    """Record a new endpoint; its name must be free in the account."""
    tx.execute(table.insert().values({c.name: getattr(telemetry, c.name) for c in table.columns}))


def get(tx: sa.Connection, nca_id: str, telemetry_id: str) -> Telemetry:
    """One endpoint of the account; raises NotFound."""
    row = tx.execute(table.select().where(table.c.id == telemetry_id, table.c.nca_id == nca_id)).first()
    if row is None:
        raise NotFound(f"Telemetry id '{telemetry_id}': Not found for account '{nca_id}'")
    return _load(row)


def chosen(tx: sa.Connection, nca_id: str, choice: TelemetryChoice | None) -> dict[TelemetryType, Telemetry]:
    """The endpoints of a choice, by what is sent there. Those in use cannot be deleted."""
    wanted = {} if choice is None else choice.by_type()
    return {kind: get(tx, nca_id, telemetry_id) for kind, telemetry_id in wanted.items()}


def of_account(tx: sa.Connection, nca_id: str) -> list[Telemetry]:
    """Every endpoint of the account, oldest first."""
    query = table.select().where(table.c.nca_id == nca_id).order_by(table.c.created_at, table.c.id)
    return [_load(row) for row in tx.execute(query)]


def delete(tx: sa.Connection, telemetry_id: str) -> None:
    """Remove an endpoint that no version uses."""
    tx.execute(table.delete().where(table.c.id == telemetry_id))


def use(tx: sa.Connection, version_id: str, telemetry_ids: Iterable[str]) -> None:
    """A version uses these."""
    for telemetry_id in dict.fromkeys(telemetry_ids):
        tx.execute(uses.insert().values(version_id=version_id, telemetry_id=telemetry_id))


def release(tx: sa.Connection, version_id: str) -> None:
    """A version uses none any more."""
    tx.execute(uses.delete().where(uses.c.version_id == version_id))


def users_of(tx: sa.Connection, telemetry_id: str) -> list[str]:
    """The versions that use it."""
    query = sa.select(uses.c.version_id).where(uses.c.telemetry_id == telemetry_id).order_by(uses.c.version_id)
    return list(tx.execute(query).scalars())


def used_by(tx: sa.Connection, version_id: str) -> list[str]:
    """The endpoints that a version uses."""
    query = sa.select(uses.c.telemetry_id).where(uses.c.version_id == version_id).order_by(uses.c.telemetry_id)
    return list(tx.execute(query).scalars())


def _load(row: sa.Row[Any]) -> Telemetry:
    return Telemetry(**row._mapping)
