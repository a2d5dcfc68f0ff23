"""Instances of a version and what they write. gpufn's own routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Query, Response

from gpufn.api.context import Context, Ctx
from gpufn.api.lines import LineStream
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version
from gpufn.compute.backend import BackendError
from gpufn.model.errors import NotFound
from gpufn.model.ids import InstanceId
from gpufn.model.instance import Instance
from gpufn.runtime.supervisor import Supervisor
from gpufn.store import deployments, instances
from gpufn.store.database import Transaction
from gpufn.wire.instances import InstanceDto, InstancesResponse
from gpufn.wire.scalars import Uuid

LOOK_AGAIN = 0.5
"""Seconds between two looks for new instances while following."""
HEARTBEAT = 15.0
"""Seconds of silence after which an empty line shows that the server is still there."""
BUFFER = 1024
"""Lines read ahead of a slow client."""


async def list_instances(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> InstancesResponse:
    """Every recorded instance, ended ones too, with what it does or why it failed."""
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    return InstancesResponse(instances=tuple(InstanceDto.of(i) for i in seen.instances))


async def stream_logs(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    follow: Annotated[bool, Query()] = False,
    tail: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    instance_id: Annotated[Uuid | None, Query(alias="instanceId")] = None,
) -> Response:
    """What the instances wrote, as lines of ``{instanceId, text}``; with ``follow`` until the client goes."""
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    if instance_id is not None and instance_id not in {i.id for i in seen.instances}:
        raise NotFound(f"Function id '{function_id}', version '{version_id}': no instance '{instance_id}' is recorded")
    if follow:
        return LineStream(_follow(context, version_id, only=instance_id, tail=tail))
    return LineStream(_kept(context, seen.instances, only=instance_id, tail=tail))


async def _kept(
    context: Context, recorded: tuple[Instance, ...], *, only: str | None, tail: int | None
) -> AsyncGenerator[bytes, None]:
    for instance in recorded:
        if only in (None, instance.id):
            async for line in _lines(context, instance.id, follow=False, tail=tail):
                yield line


async def _lines(
    context: Context, instance_id: InstanceId, *, follow: bool, tail: int | None
) -> AsyncGenerator[bytes, None]:
    try:
        async for line in context.logs.logs(instance_id, follow=follow, tail=tail):
            yield _line(instance_id, line.text)
    except BackendError as error:
        yield _line(instance_id, f"[gpufn] the log of this instance cannot be read now: {error}")


def _line(instance_id: str, text: str) -> bytes:
    return json.dumps({"instanceId": instance_id, "text": text}, separators=(",", ":")).encode() + b"\n"


async def _follow(
    context: Context, version_id: str, *, only: str | None, tail: int | None
) -> AsyncGenerator[bytes, None]:
    """Lines of all instances as they come, those that start later too, until no more can come."""
    ready: asyncio.Queue[bytes | None] = asyncio.Queue(BUFFER)
    async with Supervisor() as tasks:
        watch = tasks.start(
            _watch(context, version_id, only=only, tail=tail, ready=ready, tasks=tasks), name=f"logs {version_id}"
        )
        while not watch.done() or not ready.empty():
            try:
                line = await asyncio.wait_for(ready.get(), HEARTBEAT)
            except TimeoutError:
                line = b"\n"
            if line is None:
                return
            yield line


async def _watch(
    context: Context,
    version_id: str,
    *,
    only: str | None,
    tail: int | None,
    ready: asyncio.Queue[bytes | None],
    tasks: Supervisor,
) -> None:
    """Start one reader for every instance; when no more can come and all have been read, put None."""
    readers: dict[str, asyncio.Task[None]] = {}
    more = True
    while more:
        found, more = await context.db.run(lambda tx: _sources(tx, version_id, only))
        for instance in found:
            if instance.id not in readers:
                reading = _read(context, instance.id, tail=tail, ready=ready)
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


async def _read(
    context: Context, instance_id: InstanceId, *, tail: int | None, ready: asyncio.Queue[bytes | None]
) -> None:
    async for line in _lines(context, instance_id, follow=True, tail=tail):
        await ready.put(line)
