"""Tasks with a name and an owner.

``asyncio.create_task`` alone loses exceptions and, unless someone keeps a reference, the task itself. A supervisor
keeps its tasks, reports the first one that fails, and cancels all of them when it closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from gpufn.runtime.log import get_logger

log = get_logger("supervisor")


class Supervisor:
    """Owns background tasks; use as ``async with Supervisor() as tasks``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._failed = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self, work: Coroutine[Any, Any, Any], *, name: str, essential: bool = False) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the supervisor closes. If ``essential``, its failure ends ``wait_failed``."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, essential))
        return task

    def _ended(self, task: asyncio.Task[Any], essential: bool) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        log.error("task failed", task=task.get_name(), error=repr(error), exc_info=error)
        if essential and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def wait_failed(self) -> None:
        """Wait until an essential task fails, and raise its error."""
        if self._failed is None:
            raise RuntimeError("the supervisor was not entered")
        await asyncio.shield(self._failed)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._failed is not None and self._failed.done() and not self._failed.cancelled():
            self._failed.exception()  # seen, so that asyncio does not warn
