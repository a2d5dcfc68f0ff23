"""A database that says whether it works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gpufn.model.errors import Unavailable
from gpufn.store.database import Database, T, Transaction
from gpufn.store.watched import FRESH, Watched


class Sometimes:
    """A database that can be told to refuse, and counts what it is asked."""

    def __init__(self) -> None:
        self.refusal = ""
        self.asked = 0

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        self.asked += 1
        if self.refusal:
            raise Unavailable(self.refusal)
        return None  # type: ignore[return-value]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.looptime
async def test_a_refusal_shows_at_once_and_heals_at_the_next_look() -> None:
    """Any work that is refused makes it red; a look after that, at most one a second, finds that it works again."""
    inner = Sometimes()
    watched = Watched(inner)
    assert await watched.problem() == ""

    inner.refusal = "disk full"
    with pytest.raises(Unavailable):
        await watched.run(lambda tx: None)
    assert await watched.problem() == "disk full"
    asked = inner.asked
    assert await watched.problem() == "disk full"
    assert inner.asked == asked

    inner.refusal = ""
    await asyncio.sleep(FRESH)
    assert await watched.problem() == ""


async def test_the_look_is_a_write(db: Database) -> None:
    """On a database that reads but cannot be written the look says so, on both kinds."""
    watched = Watched(db)
    assert await watched.problem() == ""
    await db.run(lambda tx: tx.exec_driver_sql("DROP TABLE alembic_version"))
    looked_again = Watched(db)
    assert "alembic_version" in await looked_again.problem()
