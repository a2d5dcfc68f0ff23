"""A result that is being kept, which may take long: the task goes on meanwhile, and may be canceled."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from gpufn.controllers.context import Context
from gpufn.model.errors import Stale
from gpufn.model.task import Task
from gpufn.runtime.clock import loop_now
from gpufn.store import tasks
from gpufn.store.database import Transaction

LOOK_SECONDS = 1.0
"""Between two looks whether anybody still waits for the result."""
HEARTBEAT = timedelta(seconds=60)
"""Between two records that a task is alive (tasks page, section 10)."""


class Upload:
    """Keeps an eye on the task whose result is being kept. ``task``: as it was written last."""

    def __init__(self, context: Context, task: Task) -> None:
        self.task = task
        self._context, self._looked = context, loop_now()

    async def check(self) -> None:
        """Between two pieces of the result. Raises Stale when somebody has written the task, as a cancel does."""
        if loop_now() - self._looked < LOOK_SECONDS:
            return
        self._looked = loop_now()
        self.task = await self._context.db.run(self._look)

    def _look(self, tx: Transaction) -> Task:
        found = tasks.get(tx, self.task.id)
        if found is None or found.revision != self.task.revision:
            raise Stale(f"task {self.task.id} was changed while its result was kept")
        now = self._context.now()
        if found.heartbeat_at is not None and now - found.heartbeat_at < HEARTBEAT:
            return found
        return tasks.save(tx, found, replace(found, heartbeat_at=now, updated_at=now))
