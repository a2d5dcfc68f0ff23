"""Events: written with what they tell, read in the order of writing, forgotten when old or too many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gpufn.model.event import Event
from gpufn.store.tables import events as table


@dataclass(frozen=True)
class Wanted:
    """Which events: every given field must match. ``since`` is a time, ``after`` an event's id; both exclude."""

    nca_id: str
    function_id: str | None = None
    version_id: str | None = None
    deployment_id: str | None = None
    instance_id: str | None = None
    since: datetime | None = None
    after: int = 0


def insert(tx: sa.Connection, events: Iterable[Event]) -> None:
    """Record what happened, in this order."""
    for event in events:
        tx.execute(table.insert(), _row(event))


def latest(tx: sa.Connection, wanted: Wanted, *, limit: int) -> list[Event]:
    """The last ``limit`` events that match, oldest first; after a given id the first ``limit`` that follow it."""
    forward = wanted.after > 0
    order = table.c.id if forward else table.c.id.desc()
    rows = tx.execute(table.select().where(*_conditions(wanted)).order_by(order).limit(limit)).all()
    found = [Event(**row._mapping) for row in rows]
    return found if forward else found[::-1]


def forget(tx: sa.Connection, *, before: datetime, keep: int, batch: int) -> int:
    """Delete up to ``batch`` events that are older than ``before`` or not among the newest ``keep``; returns how many
    were deleted.
    """
    newest = sa.select(table.c.id).order_by(table.c.id.desc()).offset(keep).limit(1)
    surplus_up_to = tx.execute(newest).scalar()
    old = table.c.at < before
    if surplus_up_to is not None:
        old = sa.or_(old, table.c.id <= surplus_up_to)
    ids: Sequence[int] = tx.execute(sa.select(table.c.id).where(old).order_by(table.c.id).limit(batch)).scalars().all()
    if ids:
        tx.execute(table.delete().where(table.c.id.in_(ids)))
    return len(ids)


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [table.c.nca_id == wanted.nca_id]
    for name in ("function_id", "version_id", "deployment_id", "instance_id"):
        value = getattr(wanted, name)
        if value is not None:
            found.append(table.c[name] == value)
    if wanted.since is not None:
        found.append(table.c.at > wanted.since)
    if wanted.after:
        found.append(table.c.id > wanted.after)
    return found


def _row(event: Event) -> dict[str, Any]:
    return {f.name: getattr(event, f.name) for f in fields(event) if f.name != "id"}
