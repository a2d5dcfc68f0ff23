"""The one shape of every background loop: a work queue, and a pass over one key.

A pass looks at the world as it is, never at what changed (level, not edge). Hints make it fast; listing all keys again
every ``resync`` seconds makes it true: a lost hint costs seconds, never correctness. A pass may crash between any two
lines; the next one puts it right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, TypeVar

from gpufn.runtime.backoff import Backoff
from gpufn.runtime.log import get_logger
from gpufn.runtime.workqueue import WorkQueue

K = TypeVar("K", bound=Hashable)

log = get_logger("controller")


class Controller(Generic[K]):
    """Runs ``reconcile(key)`` for every key, again and again.

    ``reconcile`` returns the number of seconds after which to look again, or None to wait for a hint or the resync.
    """

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[float | None]],
        list_keys: Callable[[], Awaitable[Iterable[K]]],
        *,
        workers: int = 4,
        resync: float = 30.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[K] = WorkQueue()
        self.passes = 0
        self._reconcile, self._list_keys = reconcile, list_keys
        self._workers, self._resync = workers, resync
        self._backoff = backoff or Backoff()
        self._failures: dict[K, int] = {}

    def __repr__(self) -> str:
        return f"<Controller {self.name} passes={self.passes} failing={len(self._failures)} {self.queue!r}>"

    def hint(self, key: K) -> None:
        """Something about this key may have changed: look at it now."""
        self.queue.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._relist(), name=f"{self.name}:relist")
                for n in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name}:{n}")
        finally:
            self.queue.close()

    async def _relist(self) -> None:
        while True:
            try:
                for key in await self._list_keys():
                    if key not in self._failures:  # a failing key waits out its delay
                        self.queue.add(key)
            except Exception as error:  # the controller's pass: nothing may end the loop
                log.exception("could not list", controller=self.name, error=str(error))
            await asyncio.sleep(self._resync)

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            again: float | None
            try:
                again = await self._reconcile(key)
            except Exception as error:  # the controller's pass: a poisoned key only delays itself
                again = self._failed(key)
                log.exception("pass failed", controller=self.name, key=str(key), retry_in=again, error=str(error))
            else:
                self._failures.pop(key, None)
            finally:
                self.passes += 1
                self.queue.done(key)
            if again is not None:
                self.queue.add_after(key, again)

    def _failed(self, key: K) -> float:
        self._failures[key] = self._failures.get(key, 0) + 1
        return self._backoff.delay(self._failures[key])
