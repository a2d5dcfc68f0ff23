"""What instances wrote: read from their backend, as it was or as it comes, and chosen by time and content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime

from gpufn.api.context import Context
from gpufn.compute.backend import BackendError
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Instance
from gpufn.runtime.supervisor import Supervisor
from gpufn.store import deployments, instances
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


async def kept(context: Context, recorded: Sequence[InstanceId], wanted: Wanted) -> AsyncGenerator[Entry | None, None]:
    """What there is, instance by instance, the oldest first."""
    for instance_id in recorded:
        if wanted.only in (None, instance_id):
            async for entry in _entries(context, instance_id, wanted, follow=False):
                yield entry


async def follow(context: Context, version_id: str, wanted: Wanted) -> AsyncGenerator[Entry | None, None]:
    """Lines of all instances as they come, those that start later too, until no more can come; None in a silence."""
    ready: asyncio.Queue[Entry | None] = asyncio.Queue(BUFFER)
    async with Supervisor() as tasks:
        watch = tasks.start(_watch(context, version_id, wanted, ready, tasks), name=f"logs {version_id}")
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
                yield Entry(instance_id, line.text)
    except BackendError as error:
        yield Entry(instance_id, f"[gpufn] the log of this instance cannot be read now: {error}")


async def _watch(
    context: Context, version_id: str, wanted: Wanted, ready: asyncio.Queue[Entry | None], tasks: Supervisor
) -> None:
    """Start one reader for every instance; when no more can come and all have been read, put None."""
    readers: dict[str, asyncio.Task[None]] = {}
    more = True
    while more:
        found, more = await context.db.run(lambda tx: _sources(tx, version_id, wanted.only))
        for instance in found:
            if instance.id not in readers:
                reading = _read(context, instance.id, wanted, ready)
                readers[instance.id] = tasks.start(reading, name=f"log {instance.id}")
        await asyncio.sleep(LOOK_AGAIN if more else 0)
    if readers:
        await asyncio.wait(readers.values())
    await ready.put(None)


def _sources(tx: Transaction, version_id: str, only: str | None) -> tuple[list[Instance], bool]:
    """The recorded instances, and whether more may come: the version is deployed, or one of them still lives."""
    found = [i for i in instances.of_version(tx, version_id) if only in (None, i.id)]
    is_deployed = only is None and deployments.of_version(tx, version_id) is not None
    return found, is_deployed or any(i.is_live for i in found)


async def _read(context: Context, instance_id: InstanceId, wanted: Wanted, ready: asyncio.Queue[Entry | None]) -> None:
    async for entry in _entries(context, instance_id, wanted, follow=True):
        await ready.put(entry)
