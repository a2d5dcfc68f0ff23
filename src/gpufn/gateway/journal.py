"""What the gateway has to remember: writes of many calls share one commit.

While one batch is being committed the next one gathers, so a commit's wait for the disk is shared by everyone who came
meanwhile. A write that fails alone is told so alone; a database that cannot be used fails the whole batch, and nothing
of it was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gpufn.model.errors import Fatal, Unavailable
from gpufn.model.ids import new_id
from gpufn.model.invocation import AcceptedInvocation
from gpufn.store import invocations
from gpufn.store.database import Database, Transaction

T = TypeVar("T")
BATCH_MAX = 500
"""Writes in one transaction."""
WAITING_MAX = 50_000
"""Writes that may wait for a commit; one more is refused."""

Write = Callable[[Transaction], Any]
Accept = tuple[AcceptedInvocation, "asyncio.Future[Any]"]
Waiting = tuple[Write, "asyncio.Future[Any]"]


class Journal:
    """Group commit over a database. ``run`` must be running for anything to be written."""

    def __init__(self, db: Database) -> None:
        self.incarnation = new_id()
        """Who we are, as an owner of invocations; a new one each time that we were taken for dead."""
        self._db = db
        self._accepts: list[Accept] = []
        self._writes: list[Waiting] = []
        self._wake = asyncio.Event()
        self._ended = False

    async def accept(self, accepted: AcceptedInvocation) -> None:
        """Returns once the invocation is committed. Raises Unavailable when it cannot be."""
        future = self._future()
        self._accepts.append((accepted, future))
        self._wake.set()
        await future

    async def do(self, write: Callable[[Transaction], T]) -> T:
        """What ``write`` returned, once that is committed. Raises Unavailable when it cannot be."""
        future = self._future()
        self._writes.append((write, future))
        self._wake.set()
        found: T = await future
        return found

    async def run(self) -> None:
        """Commit what comes, until cancelled; what then waits is refused."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._accepts or self._writes:
                    accepts, self._accepts = self._accepts[:BATCH_MAX], self._accepts[BATCH_MAX:]
                    writes, self._writes = self._writes[:BATCH_MAX], self._writes[BATCH_MAX:]
                    await self._commit(accepts, writes)
        finally:
            self._ended = True
            waiting = [future for _, future in [*self._accepts, *self._writes]]
            _fail(waiting, Unavailable("the gateway is shutting down"))

    async def _commit(self, accepts: Sequence[Accept], writes: Sequence[Waiting]) -> None:
        """One transaction for all of them; should one be broken, one for each."""
        futures = [future for _, future in [*accepts, *writes]]
        try:
            found = await self._db.run(lambda tx: _apply(tx, [a for a, _ in accepts], [w for w, _ in writes]))
        except (Unavailable, Fatal) as error:  # to those who wait these are the same
            _fail(futures, error if isinstance(error, Unavailable) else Unavailable(error.message))
        except asyncio.CancelledError:
            _fail(futures, Unavailable("the gateway is shutting down"))
            raise
        except Exception as error:  # noqa: BLE001 - one write is broken: the others must not pay for it
            if len(futures) == 1:
                _fail(futures, error)
            else:
                await self._one_by_one(accepts, writes)
        else:
            _tell(futures, found)

    async def _one_by_one(self, accepts: Sequence[Accept], writes: Sequence[Waiting]) -> None:
        for accept in accepts:
            await self._commit([accept], [])
        for write in writes:
            await self._commit([], [write])

    def _future(self) -> asyncio.Future[Any]:
        if self._ended:
            raise Unavailable("the gateway is shutting down")
        if len(self._accepts) + len(self._writes) >= WAITING_MAX:
            raise Unavailable(f"{WAITING_MAX} writes wait for the database already; retry later")
        return asyncio.get_running_loop().create_future()


def _apply(tx: Transaction, accepts: Sequence[AcceptedInvocation], writes: Sequence[Write]) -> list[Any]:
    if accepts:
        invocations.insert(tx, accepts)
    return [*(None for _ in accepts), *(write(tx) for write in writes)]


def _tell(futures: Sequence[asyncio.Future[Any]], found: Sequence[Any]) -> None:
    for future, value in zip(futures, found, strict=True):
        if not future.done():
            future.set_result(value)


def _fail(futures: Sequence[asyncio.Future[Any]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
