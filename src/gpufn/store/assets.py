"""Assets: what is recorded of them. Their bytes are in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from gpufn.model.asset import Asset
from gpufn.store.tables import assets as table


class Usage(NamedTuple):
    """What an account has: assets, and bytes of those that are uploaded or being uploaded."""

    number: int
    size: int


def insert(tx: sa.Connection, asset: Asset) -> None:
    """Record a new one."""
    tx.execute(table.insert().values(asdict(asset)))


def get(tx: sa.Connection, asset_id: str) -> Asset | None:
    """The asset of that id, uploaded or not."""
    row = tx.execute(table.select().where(table.c.id == asset_id)).first()
    return None if row is None else _load(row)


def usage(tx: sa.Connection, nca_id: str, *, but: str = "") -> Usage:
    """What counts against an account; ``but`` names an asset to leave out."""
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.c.size), 0)).where(
        table.c.nca_id == nca_id, table.c.id != but
    )
    number, size = tx.execute(query).one()
    return Usage(int(number), int(size))


def set_upload(tx: sa.Connection, asset_id: str, *, size: int, uploaded_at: datetime | None) -> bool:
    """Record how far the upload is; False when there is no such asset any more."""
    update = table.update().where(table.c.id == asset_id).values(size=size, uploaded_at=uploaded_at)
    return tx.execute(update).rowcount > 0


def expired(tx: sa.Connection, now: datetime, *, limit: int) -> Sequence[Asset]:
    """Those whose time is over, oldest first."""
    query = table.select().where(table.c.expires_at <= now).order_by(table.c.expires_at).limit(limit)
    return [_load(row) for row in tx.execute(query)]


def delete(tx: sa.Connection, asset_id: str) -> bool:
    """Forget it; False when there was none."""
    return tx.execute(table.delete().where(table.c.id == asset_id)).rowcount > 0


def _load(row: sa.Row[Any]) -> Asset:
    return Asset(**row._mapping)
