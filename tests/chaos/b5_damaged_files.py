"""B5: database files as power failures and bad disks leave them. ``python tests/chaos/b5_damaged_files.py [IMAGES]``

A writer records ids, one commit each, and now and then a copy of the database and its log is taken. Each image is
damaged in one way and opened as `gpufn up` opens it. It may be refused; what opens must hold every id whose commit
had been answered. Kinds of damage:

* ``torn``: the log ends, or is garbage, somewhere behind the last answered commit: must open.
* ``flip``, ``cut``, ``zero``: bits, tails and blocks anywhere else: must open whole or be refused.

A log whose end is missing, or was never written, looks the same whether or not its disk had promised to keep it; when
ids are missing after such a cut they are counted apart (``unseen``).
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from gpufn.model.account import Account
from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.ids import AccountId
from gpufn.runtime.clock import utc_now
from gpufn.store import accounts, migrate, wal
from gpufn.store.database import Sqlite

KINDS = ("torn", "flip", "cut", "zero")


@dataclass(frozen=True)
class Image:
    """The files at one moment, and the ids whose commits had been answered."""

    directory: Path
    accepted: frozenset[str]


def images(directory: Path, count: int, chance: random.Random) -> Iterator[Image]:
    """Copies of a database that is being written, some just after a checkpoint, most with a log of some length."""
    database = Sqlite(directory / "gpufn.db")
    migrate.upgrade(database)
    accepted: set[str] = set()
    for n in range(count):
        for _ in range(chance.randint(1, 12)):
            name = f"account-{len(accepted)}"
            with database.engine.begin() as tx:
                accounts.ensure(tx, Account(AccountId(name), "x" * chance.randint(1, 60), utc_now()))
            accepted.add(name)
        if chance.random() < 0.05:
            with closing(sqlite3.connect(directory / "gpufn.db")) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        copy = directory / f"image-{n}"
        copy.mkdir()
        for file in directory.glob("gpufn.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        yield Image(copy, frozenset(accepted))
        shutil.rmtree(copy)
    database.engine.dispose()


def damaged(image: Image, kind: str, chance: random.Random) -> str:
    """Damage it; returns what was done."""
    log = image.directory / "gpufn.db-wal"
    files = [f for f in (image.directory / "gpufn.db", log) if f.exists() and f.stat().st_size]
    if kind == "torn":
        with log.open("ab") as file:  # a commit that was under way when the power went
            most = 9000 if log.stat().st_size else 32  # the header of a new log is synced before what follows it
            file.write(chance.randbytes(chance.randint(1, most)))
        return "garbage behind the log"
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if kind == "flip":
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[place:]
    else:
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    path.write_bytes(content)
    return f"{kind} of {path.name} at {place} of {path.stat().st_size}"


def found(image: Image) -> frozenset[str] | None:
    """The ids that a start finds; None when it refuses."""
    database = Sqlite(image.directory / "gpufn.db")
    try:
        if wal.is_missing(image.directory / "gpufn.db"):
            return None  # as server.control does: there was one, for there is an admin key
        migrate.upgrade(database)
        with database.engine.connect() as connection:
            return frozenset(connection.execute(sa.text("SELECT nca_id FROM accounts")).scalars())
    except (Fatal, Unavailable):
        return None
    finally:
        database.engine.dispose()


def main(count: int, seed: int) -> int:
    """Try ``count`` images; returns how many accepted ids were lost without a word."""
    chance, outcomes, lost, accepted = random.Random(seed), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        for n, image in enumerate(images(Path(name), count, chance)):
            kind = KINDS[n % len(KINDS)]
            done = damaged(image, kind, chance)
            there = found(image)
            accepted += len(image.accepted)
            missing = len(image.accepted - there) if there is not None else 0
            if kind == "torn" and there is None:
                outcomes["torn, refused without need"] += 1
            if missing and kind in ("cut", "zero") and "-wal" in done:
                outcomes["unseen ends of the synced log"] += 1
            elif missing:
                print(f"lost {missing} ids: {done} (seed {seed}, image {n})")
                lost += missing
            outcomes["refused" if there is None else "opened"] += 1
    print(
        f"B5: {count} damaged images (seed {seed}), {accepted} accepted ids looked for: {dict(outcomes)}, lost {lost}"
    )
    return lost + outcomes["torn, refused without need"]


if __name__ == "__main__":
    sys.exit(min(1, main(int(sys.argv[1]) if len(sys.argv) > 1 else 500, random.randrange(2**32))))
