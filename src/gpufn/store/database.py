"""The database, and the only place that knows its failures.

``run`` is handed a plain function and runs it in one transaction. The embedded database runs it on the loop's own
thread: a transaction is short, writers never meet, and nothing can be awaited half-way through one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import sqlalchemy as sa

from gpufn.model.errors import Fatal, Unavailable

T = TypeVar("T")
Transaction = sa.Connection


class Database(Protocol):
    """Where what was accepted is kept."""

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        """Run ``fn`` in one transaction, as if alone; it is committed when ``fn`` returns and undone when it raises.

        ``fn`` may be called again when its transaction could not be committed, so it changes nothing but the database.
        Raises Unavailable when the database cannot be read or written now: nothing was changed then, unless it is
        OutcomeUnknown.
        """
        ...

    async def close(self) -> None: ...


class Sqlite:
    """Embedded: one file in WAL mode, one connection, synced at every commit."""

    def __init__(self, path: Path | None) -> None:
        """``path`` None keeps everything in memory, for tests."""
        url = "sqlite://" if path is None else f"sqlite:///{path}"
        self.path = path
        self.engine = sa.create_engine(url, poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})
        sa.event.listen(self.engine, "connect", _prepare)
        sa.event.listen(self.engine, "begin", _begin_immediate)

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        with translated(), self.engine.begin() as tx:
            return fn(tx)

    def __str__(self) -> str:
        return str(self.path)

    async def close(self) -> None:
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """The library's errors, in our words. A broken constraint is a bug and passes as it is."""
    try:
        yield
    except UnicodeDecodeError as error:  # sqlite3 quotes the damaged schema, and cannot read it itself
        raise Fatal(
            "the database is damaged; stop gpufn and restore a backup with `gpufn restore`", exit_code=4
        ) from error
    except sa.exc.DatabaseError as error:
        cause = error.orig
        text = str(cause)
        if isinstance(cause, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
            raise Fatal(
                f"the database is damaged ({text}); stop gpufn and restore a backup with `gpufn restore`", exit_code=4
            ) from error
        if isinstance(error, sa.exc.OperationalError):
            remedy = "free some space" if "full" in text else "see whether the data directory can be written"
            raise Unavailable(f"the database cannot be used now: {text}; {remedy}, then try again") from error
        raise


def _prepare(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_immediate, not behind our back
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
