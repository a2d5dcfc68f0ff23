"""A control plane with tasks, in virtual time: launches them as the API would, and writes what they would write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from control_world import ControlWorld, control, virtual_now
from task_building import a_task

from gpufn.compute.fake import FakeBackend, FakeTaskFiles
from gpufn.model.ids import InstanceId
from gpufn.model.task import Task, TaskStatus, TaskWanted
from gpufn.settings import TaskSettings
from gpufn.store import tasks
from gpufn.store.database import Database


@dataclass
class TaskWorld:
    """The control plane and the user of tasks."""

    world: ControlWorld
    files: FakeTaskFiles

    async def launch(self, **definition: Any) -> str:
        """What POST writes; the id of the new task."""
        task = a_task(now=virtual_now(), **definition)
        await self.world.context.db.run(lambda tx: tasks.insert(tx, task))
        self.world.context.hints.hint("task-queue", "H100")
        await asyncio.sleep(0.01)  # no two tasks come at the same moment
        return task.id

    async def want(self, task_id: str, wanted: TaskWanted) -> None:
        """What cancel and DELETE write."""

        def write(tx: Any) -> None:
            task = tasks.get(tx, task_id)
            assert task is not None
            tasks.save(tx, task, replace(task, wanted=wanted, updated_at=virtual_now()))

        await self.world.context.db.run(write)
        self.world.context.hints.hint("task", task_id)

    async def task(self, task_id: str) -> Task:
        """The task as it is recorded."""
        found = await self.world.context.db.run(lambda tx: tasks.get(tx, task_id))
        assert found is not None
        return found

    async def exists(self, task_id: str) -> bool:
        """Whether anything is recorded of it."""
        return await self.world.context.db.run(lambda tx: tasks.get(tx, task_id)) is not None

    async def until(self, task_id: str, status: str, within: float = 60.0) -> float:
        """Wait until the public status is ``status``; returns how many seconds that took."""

        async def reached() -> bool:
            return (await self.task(task_id)).status == TaskStatus(status)

        return await self.world.until(reached, within)

    async def until_ended(self, task_id: str, within: float = 60.0) -> float:
        """Wait until nothing of the task runs."""

        async def reached() -> bool:
            return (await self.task(task_id)).ended_at is not None

        return await self.world.until(reached, within)

    async def instance(self, task_id: str) -> InstanceId:
        """The instance of a placed task."""
        found = (await self.task(task_id)).instance_id
        assert found is not None
        return found

    def report(self, task_id: str, percent: int, name: str = "", **changes: Any) -> None:
        """The task writes its progress file."""
        document = {"percentComplete": percent, "name": name, "lastUpdatedAt": virtual_now().isoformat()} | changes
        self.files.reports[task_id] = json.dumps(document).encode()

    async def events(self, task_id: str) -> list[str]:
        """The messages of its events."""
        found = await self.world.context.db.run(lambda tx: tasks.events_page(tx, task_id, limit=100, after=None))
        return [event.message for event in found]


@asynccontextmanager
async def task_control(
    backend: FakeBackend,
    *,
    settings: TaskSettings | None = None,
    files: FakeTaskFiles | None = None,
    db: Database | None = None,
) -> AsyncIterator[TaskWorld]:
    """A running control plane; ``files`` and ``db`` are those of an earlier one, to go on from there."""
    files = files or FakeTaskFiles()
    async with control(backend, task_settings=settings, task_files=files, db=db) as world:
        yield TaskWorld(world, files)
