"""What only the embedded database does: one file that can be full, damaged or not ours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpufn.model.account import Account
from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.ids import AccountId, new_id
from gpufn.store import accounts
from gpufn.store.database import Sqlite, Transaction
from gpufn.store.migrate import upgrade

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_full_database_is_unavailable_and_unchanged(tmp_path: Path) -> None:
    """When nothing more fits the write is refused with the remedy, and none of it is kept; with room it goes on."""
    db = Sqlite(tmp_path / "gpufn.db")
    upgrade(db)
    name = AccountId(new_id())

    def fill(tx: Transaction) -> None:
        for _ in range(2000):
            accounts.ensure(tx, Account(AccountId(new_id()), "somebody", NOW))
        accounts.ensure(tx, Account(name, "the last", NOW))

    pages = await db.run(lambda tx: tx.exec_driver_sql("PRAGMA page_count").scalar_one())
    await db.run(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}").scalar_one())
    with pytest.raises(Unavailable, match="free some space"):
        await db.run(fill)
    assert await db.run(lambda tx: tx.exec_driver_sql("SELECT count(*) FROM accounts").scalar_one()) == 0

    await db.run(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count=100000").scalar_one())
    await db.run(fill)
    assert await db.run(lambda tx: accounts.get(tx, name)) is not None
    await db.close()


async def test_a_file_that_is_no_database_is_fatal(tmp_path: Path) -> None:
    """Garbage in place of the database ends the start with exit code 4."""
    path = tmp_path / "gpufn.db"
    path.write_bytes(b"this is no database" * 500)
    database = Sqlite(path)
    with pytest.raises(Fatal) as caught:
        upgrade(database)
    assert caught.value.exit_code == 4
    await database.close()


async def test_a_schema_of_garbage_is_fatal(tmp_path: Path) -> None:
    """Where the damage is in the text of a table's definition, sqlite3 cannot even read its own message."""
    path = tmp_path / "gpufn.db"
    database = Sqlite(path)
    upgrade(database)
    await database.close()
    content = path.read_bytes()
    content = content.replace(b"tableaccountsaccounts", b"tableaccount\xe1account\xe1")
    path.write_bytes(content.replace(b"CREATE TABLE accounts", b"CREATE TABLX accounts"))
    damaged = Sqlite(path)
    with pytest.raises(Fatal, match="damaged"):
        upgrade(damaged)
    await damaged.close()
