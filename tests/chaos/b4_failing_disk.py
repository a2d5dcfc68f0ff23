"""B4: the n-th write or sync of the database fails, for every n. ``python tests/chaos/b4_failing_disk.py [N] [EVERY]``

For n from 1 to N (200), with a full disk (ENOSPC) and a broken one (EIO), once and until it is mended: a writer records
ids, one transaction each. What fails must be refused as unavailable, nothing else; when the disk works again writing
must go on without a restart, and a fresh start must find every accepted id and no damage. Needs a C compiler.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from gpufn.model.account import Account
from gpufn.model.errors import Unavailable
from gpufn.model.ids import AccountId
from gpufn.runtime.clock import utc_now
from gpufn.store import accounts, migrate
from gpufn.store.database import Sqlite
from gpufn.store.watched import Watched

SOURCE = Path(__file__).with_name("failing_disk.c")
WRITES = 40
"""Transactions while the disk fails, and as many after it was mended."""
KINDS = tuple((code, stays) for code in (errno.ENOSPC, errno.EIO) for stays in (False, True))


@dataclass
class Tally:
    """What happened, over all runs."""

    faults: int = 0
    accepted: int = 0
    refused: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)


async def one(directory: Path, disk: ctypes.CDLL, tally: Tally, *, n: int, code: int, stays: bool) -> None:
    """One fault."""
    label = f"n={n} {errno.errorcode[code]} {'until mended' if stays else 'once'}"
    path = directory / "gpufn.db"
    opened = Sqlite(path)
    migrate.upgrade(opened)
    database, accepted = Watched(opened), set[str]()
    disk.disk_arm(n, code, int(stays))
    refused = [i for i in range(WRITES) if not await record(database, f"during-{i}", accepted)]
    if stays and refused and not await Watched(opened).problem():
        tally.problems.append(f"{label}: healthy while the disk fails")
    disk.disk_arm(-1, 0, 0)
    after = [i for i in range(WRITES) if not await record(database, f"after-{i}", accepted)]
    if after:
        tally.problems.append(f"{label}: {len(after)} writes refused by a disk that works")
    if await Watched(opened).problem():
        tally.problems.append(f"{label}: not healthy again")
    await database.close()
    fresh = Sqlite(path)
    migrate.upgrade(fresh)  # refuses what is damaged
    with fresh.engine.connect() as connection:
        there = set(connection.execute(sa.text("SELECT nca_id FROM accounts")).scalars())
    fresh.engine.dispose()
    tally.faults += bool(refused)
    tally.accepted += len(accepted)
    tally.refused += len(refused)
    tally.lost += len(accepted - there)


async def record(database: Watched, name: str, accepted: set[str]) -> bool:
    """Write an id; whether that was accepted. Anything but acceptance and Unavailable ends the run."""
    account = Account(AccountId(name), "somebody", utc_now())
    try:
        await database.run(lambda tx: accounts.ensure(tx, account))
    except Unavailable:
        return False
    accepted.add(name)
    return True


async def sweep(disk: ctypes.CDLL, most: int, every: int) -> Tally:
    """Every fault."""
    tally = Tally()
    for code, stays in KINDS:
        for n in range(0, most, every):
            with tempfile.TemporaryDirectory() as name:
                await one(Path(name), disk, tally, n=n, code=code, stays=stays)
    return tally


def inside(library: str, most: int, every: int) -> int:
    """The sweep, in a process that has the library preloaded."""
    tally = asyncio.run(sweep(ctypes.CDLL(library), most, every))
    for problem in tally.problems:
        print(problem)
    print(
        f"B4: {tally.faults} disk faults, {tally.refused} writes refused, {tally.accepted} accepted, lost {tally.lost}"
    )
    return min(1, tally.lost + len(tally.problems) + (tally.faults == 0))


def main(most: int, every: int) -> int:
    """Build the library and run the sweep under it."""
    with tempfile.TemporaryDirectory() as name:
        library = f"{name}/failing_disk.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, str(SOURCE), "-ldl"], check=True)
        command = [sys.executable, __file__, library, str(most), str(every)]
        return subprocess.run(command, env={**os.environ, "LD_PRELOAD": library}, check=False).returncode


def arguments(given: list[str]) -> Iterator[int]:
    """The numbers, with their defaults."""
    yield int(given[0]) if given else 200
    yield int(given[1]) if len(given) > 1 else 1


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].endswith(".so"):
        sys.exit(inside(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    if shutil.which("cc") is None:
        sys.exit("a C compiler is needed: apt-get install gcc libc6-dev")
    sys.exit(main(*arguments(sys.argv[1:])))
