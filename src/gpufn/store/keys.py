"""API keys. Only keyed hashes are stored; the key itself is shown once and known to its holder alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gpufn.model.access import ApiKey, KeyOwner, OwnerStatus, Resource
from gpufn.store.tables import key_owners as owners, keys as table

_BY_DIGEST = table.select().where(table.c.digest == sa.bindparam("hashed"))


def insert(tx: sa.Connection, key: ApiKey) -> None:
    """Record a new key."""
    tx.execute(table.insert(), {c.name: getattr(key, c.name) for c in table.columns})


def get(tx: sa.Connection, key_id: str) -> ApiKey | None:
    """The key of that id."""
    row = tx.execute(table.select().where(table.c.id == key_id)).first()
    return None if row is None else _load(row)


def by_digest(tx: sa.Connection, digest: bytes) -> ApiKey | None:
    """The key with that hash, valid or not."""
    row = tx.execute(_BY_DIGEST, {"hashed": digest}).first()
    return None if row is None else _load(row)


def of_account(tx: sa.Connection, nca_id: str) -> list[ApiKey]:
    """Every key of the account that was not revoked, oldest first."""
    query = table.select().where(table.c.nca_id == nca_id, table.c.revoked_at.is_(None)).order_by(table.c.created_at)
    return [_load(row) for row in tx.execute(query)]


def of_owner(tx: sa.Connection, nca_id: str, owner: str, issuer: str | None = None) -> list[ApiKey]:
    """The owner's keys that were not revoked, oldest first; with ``issuer`` those of one service."""
    query = table.select().where(table.c.nca_id == nca_id, table.c.owner == owner, table.c.revoked_at.is_(None))
    if issuer is not None:
        query = query.where(table.c.issuer == issuer)
    return [_load(row) for row in tx.execute(query.order_by(table.c.created_at, table.c.id))]


def save(tx: sa.Connection, key: ApiKey) -> None:
    """Write what may change of a key: what it grants, and whether it is suspended."""
    names = ("scopes", "resources", "authorizations", "suspended", "changed_at")
    tx.execute(table.update().where(table.c.id == key.id).values({name: getattr(key, name) for name in names}))


def owner(tx: sa.Connection, nca_id: str, owner: str) -> KeyOwner | None:
    """What is recorded of an owner: nothing unless it was suspended once."""
    row = tx.execute(owners.select().where(owners.c.nca_id == nca_id, owners.c.owner == owner)).first()
    return None if row is None else KeyOwner(row.nca_id, row.owner, OwnerStatus(row.status), row.updated_at)


def save_owner(tx: sa.Connection, owner: KeyOwner) -> None:
    """Record an owner's status, and on each of its keys, where validity is looked up."""
    mine = sa.and_(owners.c.nca_id == owner.nca_id, owners.c.owner == owner.owner)
    tx.execute(owners.delete().where(mine))
    tx.execute(owners.insert().values({c.name: getattr(owner, c.name) for c in owners.columns}))
    tx.execute(
        table.update()
        .where(table.c.nca_id == owner.nca_id, table.c.owner == owner.owner)
        .values(owner_suspended=owner.status is OwnerStatus.SUSPENDED)
    )


def ids(tx: sa.Connection) -> Sequence[str]:
    """The id of every key, revoked ones too."""
    return tx.execute(sa.select(table.c.id)).scalars().all()


def revoke(tx: sa.Connection, key_id: str, *, now: datetime) -> None:
    """End a key's life. Repeating it changes nothing."""
    tx.execute(table.update().where(table.c.id == key_id, table.c.revoked_at.is_(None)).values(revoked_at=now))


def grant(tx: sa.Connection, key_id: str, scopes: Sequence[str], resources: Sequence[Resource]) -> None:
    """Give a key these scopes and resources in place of those it has."""
    tx.execute(table.update().where(table.c.id == key_id).values(scopes=tuple(scopes), resources=tuple(resources)))


def _load(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(**row._mapping)
