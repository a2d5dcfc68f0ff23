"""What a pass over the queue of tasks costs, counted and not timed: it must not depend on how many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from control_world import BEGIN, a_context, a_database
from task_building import a_task
from task_world import task_control

from gpufn.compute.fake import FakeBackend, FakeInstance
from gpufn.controllers.all import Controllers
from gpufn.model.ids import InstanceId
from gpufn.model.task import TaskPhase
from gpufn.runtime.clock import loop_now
from gpufn.store import tasks
from gpufn.store.database import Sqlite, Transaction

pytestmark = [pytest.mark.looptime]

LENGTH, SOME = 0.1, 160
"""Seconds that a short task takes, and how many of them there are."""


@contextmanager
def steps_counted(db: Sqlite) -> Iterator[list[int]]:
    """How many steps SQLite's machine takes meanwhile."""
    counter = [0]

    def step() -> int:
        counter[0] += 1
        return 0

    connection = db.engine.raw_connection()
    driver = connection.driver_connection
    assert driver is not None
    driver.set_progress_handler(step, 1)
    try:
        yield counter
    finally:
        driver.set_progress_handler(None, 1)
        connection.close()


@contextmanager
def rows_counted() -> Iterator[list[str]]:
    """The task of every row that becomes a task meanwhile."""
    loaded: list[str] = []
    plain = tasks._load

    def load(row: sa.Row[tuple[object, ...]]) -> object:
        task = plain(row)
        loaded.append(task.id)
        return task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "_load", load)
        yield loaded


async def cost(count: int, *, ended: int = 0) -> tuple[int, int, int]:
    """Steps and rows of a pass that places one task of so many, and steps of a look for what there is to do."""
    db = a_database()

    def fill(tx: Transaction) -> None:
        for number in range(count):
            tasks.insert(tx, a_task(now=BEGIN - timedelta(seconds=count - number)))
        for number in range(ended):
            task = a_task(now=BEGIN - timedelta(seconds=count - number))
            tasks.insert(tx, replace(task, phase=TaskPhase.ENDED, ended_at=BEGIN))

    def end_one(tx: Transaction) -> None:
        task = tasks.placed(tx, "H100")[0]
        tasks.save(tx, task, replace(task, phase=TaskPhase.ENDED, ended_at=BEGIN))

    await db.run(fill)
    queue = Controllers(a_context(FakeBackend(), db=db)).task_queue
    await queue.reconcile("H100")
    await db.run(end_one)
    with steps_counted(db) as steps, rows_counted() as rows:
        await queue.reconcile("H100")
    with steps_counted(db) as listing:
        assert await queue.keys() == ["H100"]
    await db.close()
    return steps[0], len(rows), listing[0]


async def test_ten_thousand_queued_tasks_cost_what_a_hundred_do() -> None:
    """A pass reads the one task that it places, whatever waits behind it and whatever has ended."""
    few, many = await cost(100), await cost(10_000, ended=1000)

    assert few[1] == many[1] == 1
    assert many[0] <= few[0] * 1.05
    assert many[2] <= few[2] * 1.05


async def test_a_full_cluster_reads_nobody() -> None:
    """While no GPU is free a pass reads no task at all."""
    db = a_database()

    def fill(tx: Transaction) -> None:
        for number in range(50):
            tasks.insert(tx, a_task(now=BEGIN - timedelta(seconds=number)))

    await db.run(fill)
    queue = Controllers(a_context(FakeBackend(), db=db)).task_queue
    await queue.reconcile("H100")
    with rows_counted() as rows:
        await queue.reconcile("H100")
    await db.close()

    assert rows == []


class Short(FakeBackend):
    """Everything runs for a tenth of a second and ends well."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def _started(self, instance: FakeInstance) -> None:
        asyncio.get_running_loop().call_later(LENGTH, self._over, instance.request.instance_id)

    def _over(self, instance_id: InstanceId) -> None:
        self.ends.append(loop_now())
        self.exit(instance_id, 0)


async def test_the_next_task_starts_when_one_ends() -> None:
    """In a time that only waiting takes, eight GPUs work on tasks of a tenth of a second without a gap."""
    backend = Short()
    async with task_control(backend) as it:
        backend.tell = partial(it.world.context.hints.hint, "seen")

        def fill(tx: Transaction) -> None:
            for number in range(SOME):
                tasks.insert(tx, a_task(now=BEGIN - timedelta(seconds=SOME - number)))

        await it.world.context.db.run(fill)
        began = loop_now()
        it.world.context.hints.hint("task-queue", "H100")
        await it.world.until(lambda: len(backend.ends) == SOME)

    assert max(backend.ends) - began <= LENGTH * SOME / 8 * 1.02
    assert len(backend.launches) == SOME
