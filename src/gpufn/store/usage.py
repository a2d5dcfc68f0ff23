"""Usage, summed up by version and hour. One writer: the usage controller."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime

import sqlalchemy as sa

from gpufn.model.usage import Usage
from gpufn.store.tables import usage as table

SUMS = tuple(field.name for field in fields(Usage))


def add(tx: sa.Connection, nca_id: str, function_id: str, version_id: str, *, hour: datetime, more: Usage) -> None:
    """Add to what the version used in that hour."""
    here = (table.c.version_id == version_id, table.c.hour == hour)
    done = tx.execute(table.update().where(*here).values({name: table.c[name] + getattr(more, name) for name in SUMS}))
    if done.rowcount == 0:
        whose = {"nca_id": nca_id, "function_id": function_id, "version_id": version_id, "hour": hour}
        tx.execute(table.insert().values(whose | asdict(more)))


def of_account(tx: sa.Connection, nca_id: str, *, since: datetime) -> dict[tuple[str, str], Usage]:
    """What each version, by function id and version id, used in the hours that begin at or after ``since``."""
    sums = [sa.func.sum(table.c[name]).label(name) for name in SUMS]
    query = (
        sa.select(table.c.function_id, table.c.version_id, *sums)
        .where(table.c.nca_id == nca_id, table.c.hour >= since)
        .group_by(table.c.function_id, table.c.version_id)
        .order_by(table.c.function_id, table.c.version_id)
    )
    return {
        (row.function_id, row.version_id): Usage(**{name: row._mapping[name] for name in SUMS})
        for row in tx.execute(query)
    }


def forget(tx: sa.Connection, *, before: datetime) -> None:
    """Delete what was used in hours before that time."""
    tx.execute(table.delete().where(table.c.hour < before))
