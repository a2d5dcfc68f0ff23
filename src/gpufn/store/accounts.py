"""Accounts and their clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from gpufn.model.account import Account, Client
from gpufn.model.secret import registry_place, telemetry_place
from gpufn.store import secrets
from gpufn.store.tables import (
    accounts as table,
    assets,
    clients,
    events,
    key_owners,
    keys,
    registry_credentials,
    telemetries,
    usage,
)

_GET = table.select().where(table.c.nca_id == sa.bindparam("account"))


def ensure(tx: sa.Connection, account: Account) -> None:
    """Create the account unless it exists."""
    if get(tx, account.nca_id) is None:
        tx.execute(table.insert(), _row(account))


def get(tx: sa.Connection, nca_id: str) -> Account | None:
    """The account of that id."""
    row = tx.execute(_GET, {"account": nca_id}).first()
    return None if row is None else Account(**row._mapping)


def count(tx: sa.Connection) -> int:
    """How many accounts there are."""
    return int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def save(tx: sa.Connection, account: Account) -> None:
    """Write the name and the bounds."""
    tx.execute(table.update().where(table.c.nca_id == account.nca_id).values(_row(account)))


def delete(tx: sa.Connection, nca_id: str) -> None:
    """Remove an account that owns no functions and tasks any more, with all it has besides (control-plane page,
    section 19): what stayed would belong to the next account of that name. Assets expire at once; their
    content goes with that.
    """
    for holder, place in ((telemetries, telemetry_place), (registry_credentials, registry_place)):
        for found in tx.execute(sa.select(holder.c.id).where(holder.c.nca_id == nca_id)).scalars().all():
            secrets.delete(tx, place(nca_id, found))
        tx.execute(holder.delete().where(holder.c.nca_id == nca_id))
    tx.execute(assets.update().where(assets.c.nca_id == nca_id).values(expires_at=assets.c.created_at))
    for theirs in (clients, key_owners, keys, events, usage):
        tx.execute(theirs.delete().where(theirs.c.nca_id == nca_id))
    tx.execute(table.delete().where(table.c.nca_id == nca_id))


def add_client(tx: sa.Connection, client: Client) -> None:
    """Associate a client that is known to no account."""
    tx.execute(clients.insert().values({c.name: getattr(client, c.name) for c in clients.columns}))


def client(tx: sa.Connection, client_id: str, issuer: str = "") -> Client | None:
    """The client of that id, whatever its account; of this installation, or of another issuer."""
    row = tx.execute(clients.select().where(clients.c.issuer == issuer, clients.c.client_id == client_id)).first()
    return None if row is None else Client(**row._mapping)


def has_client(tx: sa.Connection, nca_id: str, client_id: str) -> bool:
    """Whether a client of that id, of whatever issuer, acts for the account."""
    query = sa.select(clients.c.issuer).where(clients.c.nca_id == nca_id, clients.c.client_id == client_id)
    return tx.execute(query.limit(1)).first() is not None


def clients_of(tx: sa.Connection, nca_id: str) -> tuple[str, ...]:
    """The clients of an account, oldest first."""
    return clients_of_many(tx, [nca_id]).get(nca_id, ())


def clients_of_many(tx: sa.Connection, nca_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The clients of a page of accounts, by account."""
    query = clients.select().where(clients.c.nca_id.in_(list(nca_ids)))
    found: dict[str, tuple[str, ...]] = {}
    for row in tx.execute(query.order_by(clients.c.created_at, clients.c.client_id)):
        found[row.nca_id] = tuple(dict.fromkeys((*found.get(row.nca_id, ()), row.client_id)))
    return found


def every_client(tx: sa.Connection) -> list[Client]:
    """Every client there is."""
    return [Client(**row._mapping) for row in tx.execute(clients.select())]


def remove_client(tx: sa.Connection, client: Client) -> None:
    """Forget a client."""
    mine = sa.and_(clients.c.issuer == client.issuer, clients.c.client_id == client.client_id)
    tx.execute(clients.delete().where(mine))


def _row(account: Account) -> dict[str, Any]:
    return {c.name: getattr(account, c.name) for c in table.columns}
