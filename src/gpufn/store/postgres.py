"""PostgreSQL: for installations whose data must outlive a machine.

Store functions behave as they do on SQLite, where writers never meet: every transaction is SERIALIZABLE, and one that
the server could not put in an order with the others is run again. So is one whose connection ended before its commit
was sent, for ``patience`` seconds: a restart of the server is a pause, not an error.

A connection that ends *during* the commit leaves it open whether the transaction happened. Every transaction that
writes therefore leaves a row with a fresh token in ``gpufn_commits``. Whoever is in doubt inserts the same token,
marked ``void``: that waits for the other transaction to end, succeeds only if it did not happen, and then keeps it
from happening later. The mark tells the two apart when the answer to this insertion is lost as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from gpufn.model.errors import Fatal, Invalid, OutcomeUnknown, PlatformError, Unavailable
from gpufn.model.ids import new_id
from gpufn.runtime.backoff import Backoff
from gpufn.runtime.clock import loop_now
from gpufn.runtime.log import get_logger

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")
log = get_logger("database")

SESSION = {
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "30s",
    "enable_seqscan": "off",  # a scan locks the whole table for SERIALIZABLE: small ones would conflict without need
}
LIBPQ = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "tcp_user_timeout": 20_000}
"""A server that is gone without a word is noticed within these: seconds, and milliseconds for the last."""

RECYCLE = 3600
"""Seconds after which a connection is replaced, so that a server that was moved is found again."""
TOKENS = 500
"""Tokens of finished transactions that are kept until they are deleted together."""

CREATE_COMMITS = sa.text(
    "CREATE TABLE IF NOT EXISTS gpufn_commits "
    "(token uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), void boolean NOT NULL)"
)
"""No migration: it belongs to this module, is needed by no other database and is never part of a backup."""
FORGET_OLD = sa.text("DELETE FROM gpufn_commits WHERE at < now() - interval '1 day'")
_MARK = sa.text(
    "INSERT INTO gpufn_commits (token, void) "
    "SELECT CAST(:token AS uuid), false WHERE pg_current_xact_id_if_assigned() IS NOT NULL"
)
_VOID = sa.text("INSERT INTO gpufn_commits (token, void) VALUES (CAST(:token AS uuid), true) ON CONFLICT DO NOTHING")
_IS_VOID = sa.text("SELECT void FROM gpufn_commits WHERE token = CAST(:token AS uuid)")
_FORGET = sa.text("DELETE FROM gpufn_commits WHERE token = ANY(CAST(:tokens AS uuid[]))")


class Postgres:
    """A server, reached through a pool of ``connections``. See the module."""

    def __init__(self, url: str, *, connections: int = 10, patience: float = 10.0) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - needs the extra, where it is imported

        self.url = sa.make_url(url).set(drivername="postgresql+psycopg")
        self.where = self.url.render_as_string(hide_password=True)
        self.engine = create_async_engine(
            self.url,
            isolation_level="SERIALIZABLE",
            pool_size=connections,
            max_overflow=0,
            pool_timeout=patience,
            pool_recycle=RECYCLE,
            connect_args=connect_args(),
        )
        self._patience = patience
        self._done: list[str] = []

    async def run(self, fn: Callable[[sa.Connection], T]) -> T:
        """As the protocol says. ``fn`` may be called several times; only what its last call did counts."""
        deadline, backoff, failures = loop_now() + self._patience, Backoff(base=0.01, cap=0.5), 0
        while True:
            try:
                return await self._attempt(fn, deadline)
            except _Again as again:
                failures += 1
                delay = backoff.delay(failures) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, no secret
                if loop_now() + delay > deadline:
                    raise again.answer from again.__cause__
            await asyncio.sleep(delay)

    def __str__(self) -> str:
        return f"the database {self.where}"

    async def close(self) -> None:
        """End every connection."""
        await self.engine.dispose()

    async def _attempt(self, fn: Callable[[sa.Connection], T], deadline: float) -> T:
        token = new_id()
        with _translated(self.where):
            async with self.engine.connect() as connection:
                result = await connection.run_sync(fn)
                wrote = (await connection.execute(_MARK, {"token": token})).rowcount > 0
                happened = await self._commit(connection, token if wrote else None, deadline)
        if not happened:
            raise _Again(Unavailable(f"the database {self.where} was restarted; try again"))
        if wrote:
            await self._forget(token)
        return result

    async def _commit(self, connection: AsyncConnection, token: str | None, deadline: float) -> bool:
        """Commit; whether it happened, also when the connection ended meanwhile. Only a write can be in doubt."""
        try:
            await connection.commit()
        except sa.exc.DBAPIError as error:
            if token is None or not _is_lost(error):
                raise
            await connection.invalidate()
            log.warning("a connection ended during a commit", error=str(error.orig).strip())
            return await self._find_out(token, deadline + self._patience)
        return True

    async def _find_out(self, token: str, deadline: float) -> bool:
        """Whether the transaction with that token was committed; if not, it never will be. Raises OutcomeUnknown."""
        backoff, failures = Backoff(base=0.05, cap=1.0), 0
        while True:
            try:
                happened = await self._settle(token)
            except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
                failures += 1
                delay = backoff.delay(failures)
                if loop_now() + delay > deadline:
                    raise OutcomeUnknown(
                        f"the database {self.where} went away while it was writing, so this may or may not have been "
                        "done; look before you try again"
                    ) from error
            else:
                log.info("the transaction in doubt is settled", happened=happened)
                return happened
            await asyncio.sleep(delay)

    async def _settle(self, token: str) -> bool:
        """Make the transaction void unless it happened; whether it did."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")  # to see what we had to wait for
            await connection.execute(_VOID, {"token": token})
            void = bool((await connection.execute(_IS_VOID, {"token": token})).scalar_one())
            await connection.commit()
            return not void

    async def _forget(self, token: str) -> None:
        """Delete the tokens of finished transactions, many at once."""
        self._done.append(token)
        if len(self._done) < TOKENS:
            return
        done, self._done = self._done, []
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(isolation_level="READ COMMITTED")
                await connection.execute(_FORGET, {"tokens": done})
                await connection.commit()
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            log.warning("tokens of old transactions stay until the next start", error=str(error))


def connect_args() -> dict[str, Any]:
    """What every connection is opened with; a parameter in the URL's query comes on top."""
    return {**LIBPQ, "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items())}


def plain_engine(database: Postgres) -> sa.Engine:
    """One connection at a time, outside any loop: for migrations and backups."""
    return sa.create_engine(database.url, poolclass=sa.pool.NullPool, connect_args=connect_args())


class _Again(Exception):
    """Nothing was committed and the same may work soon; ``answer`` is what to raise when it does not."""

    def __init__(self, answer: PlatformError) -> None:
        super().__init__(answer.message)
        self.answer = answer


SOON = {
    "40001": "other work was in the way",
    "40P01": "other work was in the way",
    "53300": "it has no connection left; raise its max_connections or lower database.connections",
    "25006": "it is a standby that cannot be written; point database.url at the primary",
}
"""By SQLSTATE: worth another try. So are classes 08 (connection) and 57P (shutdown), see ``_is_lost``."""
REMEDY = {
    "53100": "its disk is full; free some space there",
    "53200": "it is out of memory",
    "58030": "it cannot read or write its disk; see its log",
    "57014": "a statement took longer than the limit",
    "55P03": "a lock was not to be had within the limit",
    "42501": "the user may not do this; grant it all rights on the schema",
    "42P01": "a table is missing; start gpufn again, which creates it",
}
DAMAGED = ("XX001", "XX002")
REFUSED = ("28000", "28P01", "3D000")
"""Wrong user, password or database name: trying again does not help, and only a person can."""


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """The library's errors, in our words."""
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise Unavailable(f"every connection to the database {where} is busy; raise database.connections") from error
    except sa.exc.DBAPIError as error:
        answer = translate(error, where)
        if answer is error:
            raise
        raise answer from error


def translate(error: sa.exc.DBAPIError, where: str) -> Exception:
    """What to raise instead of ``error``; itself when it is a bug of ours, such as a broken constraint."""
    state, text = _state(error), str(error.orig).strip()
    if state in DAMAGED:
        return Fatal(f"the database {where} is damaged: {text}; restore a backup of it", exit_code=4)
    if isinstance(error, sa.exc.DataError):
        return Invalid(f"a value cannot be stored: {text}; shorten or correct it")
    remedy = SOON.get(state) or REMEDY.get(state)
    if remedy is not None:
        answer = Unavailable(f"the database {where} cannot be used now: {text}; {remedy}, then try again")
        return _Again(answer) if state in SOON else answer
    if state not in REFUSED and not _is_lost(error):
        return error
    answer = Unavailable(f"the database {where} cannot be reached now: {text}; see that it runs, then try again")
    return answer if state in REFUSED else _Again(answer)


def _state(error: sa.exc.DBAPIError) -> str:
    """The SQLSTATE; empty when the server did not say anything."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def _is_lost(error: sa.exc.DBAPIError) -> bool:
    """Whether the connection is no more, or could not be made."""
    state = _state(error)
    silent = isinstance(error, sa.exc.OperationalError) and not state
    return error.connection_invalidated or silent or state.startswith(("08", "57P"))
