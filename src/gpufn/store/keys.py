"""API keys. Only keyed hashes are stored; the key itself is shown once and known to its holder alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gpufn.model.access import ApiKey
from gpufn.store.tables import keys as table


def insert(tx: sa.Connection, key: ApiKey) -> None:
    """Record a new key."""
    tx.execute(table.insert().values({c.name: getattr(key, c.name) for c in table.columns}))


def get(tx: sa.Connection, key_id: str) -> ApiKey | None:
    """The key of that id."""
    row = tx.execute(table.select().where(table.c.id == key_id)).first()
    return None if row is None else _load(row)


def by_digest(tx: sa.Connection, digest: bytes) -> ApiKey | None:
    """The key with that hash, valid or not."""
    row = tx.execute(table.select().where(table.c.digest == digest)).first()
    return None if row is None else _load(row)


def of_account(tx: sa.Connection, nca_id: str) -> list[ApiKey]:
    """Every key of the account that was not revoked, oldest first."""
    query = table.select().where(table.c.nca_id == nca_id, table.c.revoked_at.is_(None)).order_by(table.c.created_at)
    return [_load(row) for row in tx.execute(query)]


def ids(tx: sa.Connection) -> Sequence[str]:
    """The id of every key, revoked ones too."""
    return tx.execute(sa.select(table.c.id)).scalars().all()


def revoke(tx: sa.Connection, key_id: str, *, now: datetime) -> None:
    """End a key's life. Repeating it changes nothing."""
    tx.execute(table.update().where(table.c.id == key_id, table.c.revoked_at.is_(None)).values(revoked_at=now))


def _load(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(**row._mapping)
