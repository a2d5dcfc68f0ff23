"""Sealed secrets, by the place they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from gpufn.model.secret import SealedSecret
from gpufn.store.tables import secrets as table

_NAMES = sa.select(table.c.name).where(table.c.place == sa.bindparam("there")).order_by(table.c.name)


def put(tx: sa.Connection, secrets: Iterable[SealedSecret]) -> None:
    """Add each, or put it in place of the one of that name; others stay."""
    for secret in secrets:
        tx.execute(table.delete().where(table.c.place == secret.place, table.c.name == secret.name))
        tx.execute(table.insert().values({c.name: getattr(secret, c.name) for c in table.columns}))


def names(tx: sa.Connection, place: str) -> Sequence[str]:
    """The names of the secrets there, in order."""
    return tx.execute(_NAMES, {"there": place}).scalars().all()


def in_place(tx: sa.Connection, place: str) -> list[SealedSecret]:
    """The secrets there, by name."""
    return [_load(row) for row in tx.execute(table.select().where(table.c.place == place).order_by(table.c.name))]


def delete(tx: sa.Connection, place: str) -> None:
    """Remove every secret there."""
    tx.execute(table.delete().where(table.c.place == place))


def not_under(tx: sa.Connection, master: str, *, limit: int) -> list[SealedSecret]:
    """Up to ``limit`` secrets that are wrapped under another master key."""
    return [_load(row) for row in tx.execute(table.select().where(table.c.master != master).limit(limit))]


def _load(row: sa.Row[tuple[object, ...]]) -> SealedSecret:
    return SealedSecret(**row._mapping)
