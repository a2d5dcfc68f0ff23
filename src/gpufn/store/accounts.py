"""Accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gpufn.model.ids import AccountId
from gpufn.store.tables import accounts as table


@dataclass(frozen=True)
class Account:
    """Who owns functions and keys. ``max_functions`` bounds its versions; None is no bound."""

    nca_id: AccountId
    name: str
    created_at: datetime
    max_functions: int | None = None


def ensure(tx: sa.Connection, account: Account) -> None:
    """Create the account unless it exists."""
    if get(tx, account.nca_id) is None:
        tx.execute(table.insert().values({c.name: getattr(account, c.name) for c in table.columns}))


def get(tx: sa.Connection, nca_id: str) -> Account | None:
    """The account of that id."""
    row = tx.execute(table.select().where(table.c.nca_id == nca_id)).first()
    return None if row is None else Account(**row._mapping)
