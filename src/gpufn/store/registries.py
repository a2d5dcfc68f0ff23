"""Registry credentials, without their secrets."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from gpufn.model.errors import NotFound
from gpufn.model.registry import ArtifactType, RegistryCredential
from gpufn.store.tables import registry_credentials as table


def insert(tx: sa.Connection, credential: RegistryCredential) -> None:
    """Record a new credential; hostname and name together must be free in the account."""
    tx.execute(table.insert().values(_row(credential)))


def get(tx: sa.Connection, nca_id: str, credential_id: str) -> RegistryCredential:
    """One credential of the account; raises NotFound."""
    row = tx.execute(table.select().where(table.c.id == credential_id, table.c.nca_id == nca_id)).first()
    if row is None:
        raise NotFound(f"Registry credential id '{credential_id}': Not found for account '{nca_id}'")
    return _load(row)


def of_account(tx: sa.Connection, nca_id: str) -> list[RegistryCredential]:
    """Every credential of the account, oldest first."""
    query = table.select().where(table.c.nca_id == nca_id).order_by(table.c.created_at, table.c.id)
    return [_load(row) for row in tx.execute(query)]


def for_host(tx: sa.Connection, nca_id: str, hostname: str, kind: ArtifactType) -> list[RegistryCredential]:
    """The account's credentials for artifacts of ``kind`` on exactly that host, the last changed first."""
    query = (
        table.select()
        .where(table.c.nca_id == nca_id, table.c.hostname == hostname)
        .order_by(table.c.updated_at.desc(), table.c.id)
    )
    return [found for row in tx.execute(query) if kind in (found := _load(row)).artifact_types]


def save(tx: sa.Connection, credential: RegistryCredential) -> None:
    """Write everything that may change."""
    tx.execute(table.update().where(table.c.id == credential.id).values(_row(credential)))


def delete(tx: sa.Connection, credential_id: str) -> None:
    """Remove a credential."""
    tx.execute(table.delete().where(table.c.id == credential_id))


def _row(credential: RegistryCredential) -> dict[str, Any]:
    return {f.name: getattr(credential, f.name) for f in fields(credential)}


def _load(row: sa.Row[Any]) -> RegistryCredential:
    return RegistryCredential(**row._mapping)
