"""Who functions are shared with: a set of parties per function (version ``""``) and one per version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from gpufn.model.sharing import PUBLIC
from gpufn.store.tables import authorizations as table

WHOLE = ""
"""In place of a version id: the set that holds for every version of the function."""
_ORDER = table.c.position
_OF_VERSION = (
    sa.select(table.c.nca_id)
    .where(
        table.c.function_id == sa.bindparam("function"),
        sa.or_(table.c.version_id == WHOLE, table.c.version_id == sa.bindparam("version")),
    )
    .order_by(table.c.version_id, _ORDER)
)


def parties(tx: sa.Connection, function_id: str, version_id: str = WHOLE) -> tuple[str, ...]:
    """The set of one level, in the order they were given."""
    return tuple(tx.execute(_at(sa.select(table.c.nca_id), function_id, version_id).order_by(_ORDER)).scalars())


def replace(tx: sa.Connection, function_id: str, version_id: str, parties: Sequence[str]) -> None:
    """Make ``parties`` the set of one level."""
    tx.execute(table.delete().where(table.c.function_id == function_id, table.c.version_id == version_id))
    rows = [
        {"function_id": function_id, "version_id": version_id, "nca_id": party, "position": position}
        for position, party in enumerate(parties)
    ]
    if rows:
        tx.execute(table.insert(), rows)


def of_version(tx: sa.Connection, function_id: str, version_id: str) -> tuple[str, ...]:
    """Everybody a version is shared with: both levels together; ``*`` alone when it is public."""
    found = dict.fromkeys(tx.execute(_OF_VERSION, {"function": function_id, "version": version_id}).scalars())
    return (PUBLIC,) if PUBLIC in found else tuple(found)


def is_public(tx: sa.Connection, function_id: str, version_id: str = WHOLE) -> bool:
    """Whether the version is public; without one, whether any of the function is."""
    query = sa.select(table.c.nca_id).where(table.c.function_id == function_id, table.c.nca_id == PUBLIC)
    if version_id != WHOLE:
        query = query.where(table.c.version_id.in_((WHOLE, version_id)))
    return tx.execute(query.limit(1)).first() is not None


def functions_naming(tx: sa.Connection, party: str) -> Sequence[str]:
    """The ids of the functions that name ``party`` anywhere."""
    return tx.execute(sa.select(table.c.function_id).where(table.c.nca_id == party).distinct()).scalars().all()


def forget(tx: sa.Connection, function_id: str, version_id: str, *, last: bool) -> None:
    """A version was deleted: its own set goes, and the function's when it was the ``last``."""
    levels = (version_id, WHOLE) if last else (version_id,)
    tx.execute(table.delete().where(table.c.function_id == function_id, table.c.version_id.in_(levels)))


def _at(query: sa.Select[Any], function_id: str, version_id: str) -> sa.Select[Any]:
    return query.where(table.c.function_id == function_id, table.c.version_id == version_id)
