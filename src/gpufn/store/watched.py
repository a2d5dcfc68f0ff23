"""A database that can say whether it works: seen at once when it refuses work, and when it does so no more."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from gpufn.model.errors import Unavailable
from gpufn.runtime.clock import loop_now
from gpufn.runtime.log import get_logger
from gpufn.store.database import Database, T, Transaction

FRESH = 1.0
"""Seconds for which an answer stands, so that whoever asks often costs no more than one write a second."""
WRITE = sa.text("UPDATE alembic_version SET version_num = version_num")
"""Changes nothing, but needs all that a change needs: space, and a disk that keeps its word."""
log = get_logger("database")


class Watched:
    """``Database`` over another one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._problem = ""
        self._looked: float | None = None

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        """As the other one does it."""
        try:
            return await self._db.run(fn)
        except Unavailable as error:
            self._note(error.message)
            raise

    async def close(self) -> None:
        await self._db.close()

    async def problem(self) -> str:
        """Why it cannot be written, or ``""``; found out by a write, unless that was done a moment ago."""
        now = loop_now()
        if self._looked is None or now - self._looked >= FRESH:
            self._looked = now
            try:
                await self._db.run(lambda tx: tx.execute(WRITE))
            except Unavailable as error:
                self._note(error.message)
            else:
                self._note("")
        return self._problem

    def _note(self, problem: str) -> None:
        if bool(problem) != bool(self._problem):
            log.warning("the database works again") if not problem else log.error("the database", problem=problem)
        self._problem = problem
