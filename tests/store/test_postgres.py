"""PostgreSQL's own failures: transactions in each other's way, connections that end, a server that is away."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from commit_breaker import Break, breaking
from postgres_server import PostgresServer

from gpufn.model.account import Account
from gpufn.model.errors import Fatal, Invalid, OutcomeUnknown, Unavailable
from gpufn.model.ids import AccountId
from gpufn.settings import DatabaseSettings
from gpufn.store import accounts
from gpufn.store.database import Database, Transaction
from gpufn.store.migrate import upgrade
from gpufn.store.opening import open_database
from gpufn.store.tables import accounts as table

pytestmark = pytest.mark.postgres

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ME = AccountId("counted")


def opened(url: str, *, connections: int = 10, patience: float = 10.0) -> Database:
    """The database at ``url``, as the server opens it."""
    return open_database(DatabaseSettings(url, connections, patience), Path("unused"))


@pytest.fixture
async def counter(postgres_url: str) -> AsyncIterator[Database]:
    """A database in which ``ME`` has counted to 0."""
    database = open_database(DatabaseSettings(postgres_url), Path("unused"))
    upgrade(database)
    await database.run(lambda tx: accounts.ensure(tx, Account(ME, "counter", NOW, 0)))
    yield database
    await database.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    """One whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


def count(tx: Transaction) -> int:
    """Read the count, and write one more: what two of them may not do at once."""
    found = accounts.get(tx, ME)
    assert found is not None
    more = (found.max_functions or 0) + 1
    tx.execute(table.update().where(table.c.nca_id == ME).values(max_functions=more))
    return more


def counted(tx: Transaction) -> int:
    """How far it is."""
    return int(tx.execute(sa.select(table.c.max_functions).where(table.c.nca_id == ME)).scalar_one())


async def test_transactions_run_as_if_alone(counter: Database) -> None:
    """Forty that read, then write what they read plus one, count to forty."""
    results = await asyncio.gather(*(counter.run(count) for _ in range(40)))
    assert sorted(results) == list(range(1, 41))
    assert await counter.run(counted) == 40


@pytest.mark.parametrize("fate", [Break.BEFORE, Break.AFTER, Break.LATE])
async def test_a_commit_in_doubt_happens_exactly_once(
    counter: Database, postgres_server: PostgresServer, postgres_url: str, directory: Path, fate: Break
) -> None:
    """Wherever the connection ends, the transaction is found to have happened, or is run again."""
    fates = iter([Break.NOTHING, fate])
    async with breaking(postgres_server.root, directory, lambda: next(fates, Break.NOTHING)) as breaker:
        database = opened(postgres_url.replace(str(postgres_server.root), str(directory)))
        assert [await database.run(count) for _ in range(3)] == [1, 2, 3]
        await database.close()
    assert breaker.broken == 1
    assert await counter.run(counted) == 3


async def test_many_commits_in_doubt(
    counter: Database, postgres_server: PostgresServer, postgres_url: str, directory: Path
) -> None:
    """With every fifth commit broken at random, concurrent transactions still count exactly once each."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    fates = [Break.NOTHING] * 12 + [Break.BEFORE, Break.AFTER, Break.LATE]
    async with breaking(postgres_server.root, directory, lambda: chance.choice(fates)) as breaker:
        database = opened(postgres_url.replace(str(postgres_server.root), str(directory)), patience=20)

        async def several() -> None:
            for _ in range(10):
                await database.run(count)

        await asyncio.gather(*(several() for _ in range(3)))
        await database.close()
    assert await counter.run(counted) == 30, f"seed {seed}, {breaker.broken} broken"


async def test_an_outcome_that_cannot_be_found_out_is_said_to_be_unknown(
    counter: Database, postgres_server: PostgresServer, postgres_url: str, directory: Path
) -> None:
    """When no commit gets through after a broken one, the caller is told that it may have happened."""
    async with breaking(postgres_server.root, directory, lambda: Break.BEFORE):
        database = opened(postgres_url.replace(str(postgres_server.root), str(directory)), patience=0.3)
        with pytest.raises(OutcomeUnknown, match="may or may not"):
            await database.run(count)
        await database.close()
    assert await counter.run(counted) == 0


async def test_a_value_that_does_not_fit_is_the_callers_mistake(counter: Database) -> None:
    """Too long a text, and a NUL in one, are refused as invalid; SQLite's laxer limits are never relied on."""
    long, odd = (Account(AccountId("a"), name, NOW) for name in ("x" * 65, "nul\0"))
    with pytest.raises(Invalid, match="cannot be stored"):
        await counter.run(lambda tx: accounts.ensure(tx, long))
    with pytest.raises(Invalid, match="cannot be stored"):
        await counter.run(lambda tx: accounts.ensure(tx, odd))


async def test_a_bug_passes_as_it_is(counter: Database) -> None:
    """A broken constraint is not disguised as an outage, and nothing of it stays."""
    with pytest.raises(sa.exc.IntegrityError):
        await counter.run(lambda tx: tx.execute(table.insert().values(nca_id=ME, name="again", created_at=NOW)))
    assert await counter.run(counted) == 0


async def test_a_server_that_is_not_there(directory: Path) -> None:
    """Work is refused as unavailable and names the place without the password; the start ends with exit code 4."""
    database = open_database(
        DatabaseSettings(f"postgresql://me:secret@/none?host={directory}", patience=0.1), Path("unused")
    )
    with pytest.raises(Unavailable, match="cannot be reached") as refused:
        await database.run(counted)
    with pytest.raises(Fatal, match="cannot be used") as fatal:
        upgrade(database)
    assert fatal.value.exit_code == 4
    for message in (refused.value.message, fatal.value.message):
        assert "secret" not in message
    await database.close()


async def test_two_starts_migrate_one_after_the_other(postgres_url: str) -> None:
    """Of several at once each finds the whole schema when it is done."""
    found = [open_database(DatabaseSettings(postgres_url), Path("unused")) for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(upgrade, database) for database in found))
    for database in found:
        await database.run(lambda tx: accounts.ensure(tx, Account(ME, "counter", NOW, 0)))
        assert await database.run(counted) == 0
        await database.close()


async def test_tokens_of_finished_transactions_do_not_pile_up(
    counter: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are deleted in batches; reading leaves none."""
    monkeypatch.setattr("gpufn.store.postgres.TOKENS", 10)
    for _ in range(25):
        await counter.run(count)
        await counter.run(counted)
    left = await counter.run(lambda tx: tx.exec_driver_sql("SELECT count(*) FROM gpufn_commits").scalar_one())
    assert left < 10


def test_a_url_of_another_kind_is_refused() -> None:
    """The message shows both forms that work."""
    for url in ("mysql://x/y", "nonsense", "sqlite:relative"):
        with pytest.raises(Fatal, match=r"sqlite:///PATH nor postgresql://"):
            open_database(DatabaseSettings(url), Path("unused"))
