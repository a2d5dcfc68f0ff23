"""Long lists, page by page: what was created first comes first, and a page begins behind the last element of the one
before.

Each page is a transaction of its own, so nobody waits for a list of everything, and no more than a page is in memory.
What is created or deleted while a list is read may be in it or not; everything else is in it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from gpufn.model.account import Account
from gpufn.model.asset import Asset
from gpufn.model.deployment import Deployment
from gpufn.model.function import FunctionVersion
from gpufn.model.sharing import PUBLIC, Relation
from gpufn.store import deployments as stored_deployments
from gpufn.store.authorizations import WHOLE
from gpufn.store.tables import accounts, assets, authorizations, deployments, versions
from gpufn.store.types import UtcDateTime

Position: TypeAlias = tuple[datetime, str]
"""Creation and id of the last element of a page."""


class VersionIds(NamedTuple):
    """A version by its ids alone."""

    created_at: datetime
    id: str
    function_id: str


def of_versions(
    tx: sa.Connection, nca_id: str, to: Relation, *, after: Position | None, limit: int, function_id: str | None = None
) -> Sequence[FunctionVersion]:
    """Versions, of one function or of all, that are ``to`` the account (control-plane page, section 5)."""
    query = _of_versions(to, one_function=function_id is not None, goes_on=after is not None)
    rows = tx.execute(query, _parameters(nca_id, after, limit, function_id))
    return [FunctionVersion(**row._mapping) for row in rows]


def of_version_ids(
    tx: sa.Connection, nca_id: str, to: Relation, *, after: Position | None, limit: int, function_id: str | None = None
) -> Sequence[VersionIds]:
    """The same versions, without what they hold."""
    query = _of_version_ids(to, one_function=function_id is not None, goes_on=after is not None)
    return [VersionIds(*row) for row in tx.execute(query, _parameters(nca_id, after, limit, function_id))]


def of_deployments(tx: sa.Connection, nca_id: str, *, after: Position | None, limit: int) -> Sequence[Deployment]:
    """Deployments of the account."""
    query = deployments.select().where(deployments.c.nca_id == nca_id)
    return stored_deployments.load(tx, _behind(query, deployments.c.created_at, deployments.c.id, after).limit(limit))


def of_assets(tx: sa.Connection, nca_id: str, *, after: Position | None, limit: int, now: datetime) -> Sequence[Asset]:
    """Assets of the account that exist now."""
    query = assets.select().where(
        assets.c.nca_id == nca_id, assets.c.uploaded_at.is_not(None), assets.c.expires_at > now
    )
    return [
        Asset(**row._mapping)
        for row in tx.execute(_behind(query, assets.c.created_at, assets.c.id, after).limit(limit))
    ]


def of_accounts(
    tx: sa.Connection, *, after: Position | None, limit: int, nca_id: str | None = None
) -> Sequence[Account]:
    """Accounts, or the one of that id."""
    query = accounts.select() if nca_id is None else accounts.select().where(accounts.c.nca_id == nca_id)
    query = _behind(query, accounts.c.created_at, accounts.c.nca_id, after).limit(limit)
    return [Account(**row._mapping) for row in tx.execute(query)]


def _parameters(nca_id: str, after: Position | None, limit: int, function_id: str | None) -> dict[str, object]:
    given: dict[str, object] = {"account": nca_id, "most": limit}
    if function_id is not None:
        given["function"] = function_id
    if after is not None:
        given["moment"], given["last"] = after
    return given


@cache
def _of_versions(to: Relation, *, one_function: bool, goes_on: bool) -> sa.Select[Any]:
    """The ids are chosen first: what is sorted then is small, whatever the versions hold."""
    chosen = _paged(_chosen(to, [versions.c.id], one_function=one_function), versions.c, goes_on=goes_on)
    return versions.select().where(versions.c.id.in_(chosen)).order_by(versions.c.created_at, versions.c.id)


@cache
def _of_version_ids(to: Relation, *, one_function: bool, goes_on: bool) -> sa.Select[Any]:
    columns = [versions.c.created_at, versions.c.id, versions.c.function_id]
    return _paged(_chosen(to, columns, one_function=one_function), versions.c, goes_on=goes_on)


def _paged(query: sa.Select[Any], columns: Any, *, goes_on: bool) -> sa.Select[Any]:
    if goes_on:
        behind = sa.tuple_(sa.bindparam("moment", type_=UtcDateTime), sa.bindparam("last", type_=sa.String))
        query = query.where(sa.tuple_(columns.created_at, columns.id) > behind)
    return query.order_by(columns.created_at, columns.id).limit(sa.bindparam("most", type_=sa.Integer))


def _behind(
    query: sa.Select[Any], created: sa.ColumnElement[datetime], identity: sa.ColumnElement[str], after: Position | None
) -> sa.Select[Any]:
    if after is not None:
        moment, last = sa.literal(after[0], created.type), sa.literal(after[1], identity.type)
        query = query.where(sa.tuple_(created, identity) > sa.tuple_(moment, last))
    return query.order_by(created, identity)


def _chosen(to: Relation, columns: Sequence[sa.ColumnElement[Any]], *, one_function: bool) -> sa.Select[Any]:
    """Public wins over own, and own over authorized, as in ``model.sharing.relation``."""
    query, account = sa.select(*columns), sa.bindparam("account", type_=sa.String)
    if one_function:
        query = query.where(versions.c.function_id == sa.bindparam("function"))
    everybody = sa.literal(PUBLIC)
    if to is Relation.PUBLIC:
        return query.where(_names(everybody, one_function=one_function))
    query = query.where(sa.not_(_named(everybody)))
    if to is Relation.PRIVATE:
        return query.where(versions.c.nca_id == account)
    return query.where(versions.c.nca_id != account, _names(account, one_function=one_function))


def _names(party: sa.ColumnElement[str], *, one_function: bool) -> sa.ColumnElement[bool]:
    """Whether a version names the party; looked for from the parties' side, of whom there are fewer."""
    if one_function:
        return _named(party)
    candidates = sa.select(authorizations.c.function_id).where(authorizations.c.nca_id == party)
    return sa.and_(versions.c.function_id.in_(candidates), _named(party))


def _named(party: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the version, or its function, names the party."""
    return sa.exists().where(
        authorizations.c.nca_id == party,
        authorizations.c.function_id == versions.c.function_id,
        sa.or_(authorizations.c.version_id == WHOLE, authorizations.c.version_id == versions.c.id),
    )
