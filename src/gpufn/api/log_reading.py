"""What instances wrote: read from their backend, as it was or as it comes, and chosen by time and content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from gpufn.api.context import Context
from gpufn.compute.backend import BackendError
from gpufn.model.ids import InstanceId
from gpufn.model.task import TaskPhase
from gpufn.runtime.supervisor import Supervisor
from gpufn.store import deployments, instances, tasks
from gpufn.store.database import Transaction

LOOK_AGAIN = 0.5
"""Seconds between two looks for new instances while following."""
HEARTBEAT = 15.0
"""Seconds of silence after which None shows that the server is still there."""
BUFFER = 1024
"""Lines read ahead of a slow client."""


@dataclass(frozen=True)
class Wanted:
    """Which lines: of one instance only; the last ``tail``; written after ``since``; that hold ``text``."""

    only: str | None = None
    tail: int | None = None
    since: datetime | None = None
    text: str | None = None


@dataclass(frozen=True)
class Entry:
    """One line of one instance."""

    instance_id: str
    text: str
    at: datetime | None = None
    """When it was written, where that is known."""


Sources: TypeAlias = Callable[[Transaction], tuple[Sequence[InstanceId], bool]]
"""The instances whose lines are to be read, and whether more of them may come."""


async def kept(context: Context, recorded: Sequence[InstanceId], wanted: Wanted) -> AsyncGenerator[Entry | None, None]:
    """What there is, instance by instance, the oldest first."""
    for instance_id in recorded:
        if wanted.only in (None, instance_id):
            async for entry in _entries(context, instance_id, wanted, follow=False):
                yield entry


async def follow(context: Context, sources: Sources, wanted: Wanted) -> AsyncGenerator[Entry | None, None]:
    """Lines of all instances as they come, those that start later too, until no more can come; None in a silence."""
    ready: asyncio.Queue[Entry | None] = asyncio.Queue(BUFFER)
    async with Supervisor() as readings:
        watch = readings.start(_watch(context, sources, wanted, ready, readings), name="logs")
        while not watch.done() or not ready.empty():
            try:
                entry = await asyncio.wait_for(ready.get(), HEARTBEAT)
            except TimeoutError:
                yield None
                continue
            if entry is None:
                return
            yield entry


async def _entries(
    context: Context, instance_id: InstanceId, wanted: Wanted, *, follow: bool
) -> AsyncGenerator[Entry, None]:
    try:
        lines = context.logs.logs(instance_id, follow=follow, tail=wanted.tail, since=wanted.since)
        async for line in lines:
            if wanted.text is None or wanted.text in line.text:
                yield Entry(instance_id, line.text, line.at)
    except BackendError as error:
        yield Entry(instance_id, f"[gpufn] the log of this instance cannot be read now: {error}")


async def _watch(
    context: Context, sources: Sources, wanted: Wanted, ready: asyncio.Queue[Entry | None], readings: Supervisor
) -> None:
    """Start one reader for every instance; when no more can come and all have been read, put None."""
    readers: dict[str, asyncio.Task[None]] = {}
    more = True
    while more:
        found, more = await context.db.run(sources)
        for instance_id in found:
            if instance_id not in readers:
                reading = _read(context, instance_id, wanted, ready)
                readers[instance_id] = readings.start(reading, name=f"log {instance_id}")
        await asyncio.sleep(LOOK_AGAIN if more else 0)
    if readers:
        await asyncio.wait(readers.values())
    await ready.put(None)


def of_version(version_id: str, only: str | None) -> Sources:
    """The instances of a version; more may come while it is deployed, or one of them still lives."""

    def read(tx: Transaction) -> tuple[Sequence[InstanceId], bool]:
        found = [i for i in instances.of_version(tx, version_id) if only in (None, i.id)]
        is_deployed = only is None and deployments.of_version(tx, version_id) is not None
        return [i.id for i in found], is_deployed or any(i.is_live for i in found)

    return read


def of_task(task_id: str, only: str | None = None) -> Sources:
    """The instances of a task, attempt by attempt, or ``only`` one; more may come until it, or the task, has ended."""

    def read(tx: Transaction) -> tuple[Sequence[InstanceId], bool]:
        task = tasks.get(tx, task_id)
        if task is None:
            return (), False
        is_asked_for = task.phase is not TaskPhase.PLACED or task.launched_at is not None
        found = task.instances if is_asked_for else task.past_instances
        goes_on = task.ended_at is None and only in (None, task.instance_id)
        return [i for i in found if only in (None, i)], goes_on

    return read


async def _read(context: Context, instance_id: InstanceId, wanted: Wanted, ready: asyncio.Queue[Entry | None]) -> None:
    async for entry in _entries(context, instance_id, wanted, follow=True):
        await ready.put(entry)
