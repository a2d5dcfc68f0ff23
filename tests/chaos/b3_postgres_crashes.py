"""B3: PostgreSQL stopped at once, and connections cut in the middle of commits, under writers.

``python tests/chaos/b3_postgres_crashes.py [CRASHES]``. Each writer records ids, one transaction each, through a
proxy that breaks one commit in ten, before or after the server has seen it. Meanwhile the server is stopped as a crash
stops it (``pg_ctl stop -m immediate``) and started again. An id that was answered must be there; one that was
refused must not, unless the answer was that nobody can know.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "store"))

from commit_breaker import Break, breaking
from postgres_server import WHY_NOT, PostgresServer, programs, serving

from gpufn.model.account import Account
from gpufn.model.errors import OutcomeUnknown, Unavailable
from gpufn.model.ids import AccountId, new_id
from gpufn.runtime.clock import utc_now
from gpufn.settings import DatabaseSettings
from gpufn.store import accounts, migrate
from gpufn.store.database import Database
from gpufn.store.opening import open_database
from gpufn.store.tables import accounts as table

WRITERS = 4
FATES = [Break.NOTHING] * 27 + [Break.BEFORE, Break.AFTER, Break.LATE]


@dataclass
class Ledger:
    """What became of each id, as its writer was told."""

    accepted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


async def write(database: Database, ledger: Ledger, stop: asyncio.Event) -> None:
    """Record ids until told to stop. A write that is repeated although it happened breaks the primary key: a bug."""
    while not stop.is_set():
        name = AccountId(new_id())
        account = Account(name, "somebody", utc_now())
        try:
            await database.run(lambda tx: accounts.ensure(tx, account))  # noqa: B023 - awaited at once
        except OutcomeUnknown:
            ledger.unknown.add(name)
        except Unavailable:
            ledger.refused.add(name)
        else:
            ledger.accepted.add(name)


async def crash(server: PostgresServer, crashes: int, chance: random.Random) -> None:
    """Stop and start the server again and again."""
    for _ in range(crashes):
        await asyncio.sleep(chance.uniform(0.2, 1.0))
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)
    await asyncio.sleep(0.5)


async def run(server: PostgresServer, directory: Path, crashes: int, seed: int) -> int:
    """Returns how many accepted ids were lost, or refused ones are there."""
    chance, ledger, stop = random.Random(seed), Ledger(), asyncio.Event()
    server.query("CREATE DATABASE chaos")
    url = server.url("chaos")
    migrate.upgrade(open_database(DatabaseSettings(url), directory))
    async with breaking(server.root, directory, lambda: chance.choice(FATES)) as breaker:
        proxied = DatabaseSettings(url.replace(str(server.root), str(directory)), patience=20)
        database = open_database(proxied, directory)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(write(database, ledger, stop))
            await crash(server, crashes, chance)
            stop.set()
        await database.close()
    direct = open_database(DatabaseSettings(url), directory)
    there = Counter(await direct.run(lambda tx: list(tx.execute(sa.select(table.c.nca_id)).scalars())))
    await direct.close()
    lost, ghosts = len(ledger.accepted - there.keys()), len(ledger.refused & there.keys())
    print(
        f"B3: {crashes} crashes and {breaker.broken} broken commits (seed {seed}), {len(ledger.accepted)} accepted, "
        f"{len(ledger.refused)} refused, {len(ledger.unknown)} unknown; lost {lost}, kept although refused {ghosts}"
    )
    return lost + ghosts


def main(crashes: int, seed: int) -> int:
    """See the module."""
    with serving() as server, tempfile.TemporaryDirectory(dir="/tmp") as directory:
        return asyncio.run(run(server, Path(directory), crashes, seed))


if __name__ == "__main__":
    if programs() is None:
        sys.exit(WHY_NOT)
    sys.exit(min(1, main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, random.randrange(2**32))))
