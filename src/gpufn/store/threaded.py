"""The embedded database on a thread of its own, for who must not wait for a disk: the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gpufn.store.database import Sqlite, T, Transaction, translated


class ThreadedSqlite:
    """As ``Sqlite``, but transactions run one after the other on another thread."""

    def __init__(self, sqlite: Sqlite) -> None:
        self._sqlite = sqlite
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    async def run(self, fn: Callable[[Transaction], T]) -> T:
        """As ``Database.run``; ``fn`` is run on the other thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, fn)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._sqlite.engine.dispose)
        self._thread.shutdown()

    def _transact(self, fn: Callable[[Transaction], T]) -> T:
        with translated(), self._sqlite.engine.begin() as tx:
            return fn(tx)
