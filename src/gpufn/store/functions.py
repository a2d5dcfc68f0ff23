"""Versions of functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from gpufn.model.errors import NotFound, Stale
from gpufn.model.function import FunctionVersion
from gpufn.store.tables import versions as table

ORDER = (table.c.created_at, table.c.id)
# Statements of the most frequent calls, made once: to put one together takes longer than SQLite needs to run it.
_INSERT = table.insert()
_FIND = table.select().where(table.c.id == sa.bindparam("version_id"))
_GET = _FIND.where(table.c.function_id == sa.bindparam("function_id"), table.c.nca_id == sa.bindparam("nca_id"))


def insert(tx: sa.Connection, version: FunctionVersion) -> None:
    """Record a new version."""
    tx.execute(_INSERT, _row(version))


def get(tx: sa.Connection, nca_id: str, function_id: str, version_id: str) -> FunctionVersion:
    """One version of the account; raises NotFound, also when the two ids do not belong together."""
    row = tx.execute(_GET, {"version_id": version_id, "function_id": function_id, "nca_id": nca_id}).first()
    if row is None:
        raise NotFound(
            f"Function id '{function_id}', version '{version_id}': Not found for account '{nca_id}'",
            function_id=function_id,
            version_id=version_id,
        )
    return _load(row)


def find(tx: sa.Connection, version_id: str) -> FunctionVersion | None:
    """The version of that id, whoever owns it."""
    row = tx.execute(_FIND, {"version_id": version_id}).first()
    return None if row is None else _load(row)


def of_ids(tx: sa.Connection, version_ids: Iterable[str]) -> dict[str, FunctionVersion]:
    """The versions of a page of ids, by id."""
    return {v.id: v for v in _all(tx, table.select().where(table.c.id.in_(list(version_ids))))}


def siblings(tx: sa.Connection, nca_id: str, function_id: str) -> list[FunctionVersion]:
    """The versions of one function that the account owns, oldest first; none when it owns no such function."""
    query = table.select().where(table.c.function_id == function_id, table.c.nca_id == nca_id)
    return _all(tx, query.order_by(*ORDER))


def of_function(tx: sa.Connection, nca_id: str, function_id: str) -> list[FunctionVersion]:
    """The same; raises NotFound when the account has none."""
    found = siblings(tx, nca_id, function_id)
    if not found:
        raise NotFound(f"Function '{function_id}': Not found for account '{nca_id}'", function_id=function_id)
    return found


def from_host(tx: sa.Connection, nca_id: str, host: str) -> FunctionVersion | None:
    """A version of the account that names something on ``host``: an image, a chart, a model."""
    text = sa.cast(table.c.definition, sa.Text)
    named = sa.or_(text.contains(f'"{host}/', autoescape=True), text.contains(f"://{host}/", autoescape=True))
    row = tx.execute(table.select().where(table.c.nca_id == nca_id, named).order_by(*ORDER).limit(1)).first()
    return None if row is None else _load(row)


def every(tx: sa.Connection) -> list[FunctionVersion]:
    """Every version there is, oldest first."""
    return _all(tx, table.select().order_by(*ORDER))


def ids(tx: sa.Connection) -> Sequence[str]:
    """The id of every version there is."""
    return tx.execute(sa.select(table.c.id)).scalars().all()


def owns(tx: sa.Connection, nca_id: str, function_id: str) -> bool:
    """Whether the account has a function of that id."""
    query = sa.select(table.c.id).where(table.c.nca_id == nca_id, table.c.function_id == function_id)
    return tx.execute(query.limit(1)).first() is not None


def count(tx: sa.Connection, nca_id: str) -> int:
    """How many versions the account has."""
    return tx.execute(sa.select(sa.func.count()).where(table.c.nca_id == nca_id)).scalar_one()


def save(tx: sa.Connection, version: FunctionVersion) -> None:
    """Write what may change (tags, limits, models), if nobody has since it was read; raises Stale otherwise."""
    done = tx.execute(
        table.update()
        .where(table.c.id == version.id, table.c.revision == version.revision)
        .values(
            definition=version.definition,
            tags=version.tags,
            rate_limit=version.rate_limit,
            llm_invocation=version.llm_invocation,
            revision=version.revision + 1,
        )
    )
    if done.rowcount == 0:
        raise Stale(f"version {version.id} was changed meanwhile")


def delete(tx: sa.Connection, version_id: str) -> None:
    """Remove a version. Its deployment must be gone already."""
    tx.execute(table.delete().where(table.c.id == version_id))


def _row(version: FunctionVersion) -> dict[str, Any]:
    return {c.name: getattr(version, c.name) for c in table.columns}


def _load(row: sa.Row[Any]) -> FunctionVersion:
    return FunctionVersion(**row._mapping)


def _all(tx: sa.Connection, query: sa.Select[Any]) -> list[FunctionVersion]:
    return [_load(row) for row in tx.execute(query)]
