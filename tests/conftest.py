"""For every test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from postgres_server import WHY_NOT, PostgresServer, programs, serving

from gpufn.model.account import Account
from gpufn.model.ids import DEFAULT_ACCOUNT
from gpufn.settings import DatabaseSettings
from gpufn.store import accounts
from gpufn.store.database import Database
from gpufn.store.migrate import upgrade
from gpufn.store.opening import open_database


def pytest_configure() -> None:
    """Say that there is no event loop yet: else the first look for one makes one that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole run, started by the first test that wants it."""
    if programs() is None:
        pytest.skip(WHY_NOT)
    if find_spec("psycopg") is None:
        pytest.skip("the extra is not installed: pip install 'gpufn[postgres]'")
    with serving("fsync=off", "full_page_writes=off") as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of that server, of this test alone."""
    name = f"t{abs(hash(request.node.nodeid)):x}"
    postgres_server.query(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    postgres_server.query(f"DROP DATABASE {name} WITH (FORCE)")


BOTH_DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))


@pytest.fixture(params=BOTH_DATABASES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database with the account: the test runs on a SQLite file, and again on PostgreSQL."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    database = open_database(DatabaseSettings(url=url), tmp_path / "gpufn.db")
    upgrade(database)
    account = Account(DEFAULT_ACCOUNT, "default", datetime(2026, 1, 1, tzinfo=UTC))
    await database.run(lambda tx: accounts.ensure(tx, account))
    yield database
    await database.close()
