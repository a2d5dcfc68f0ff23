"""Instances of a version and what they write. gpufn's own routes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Response

from gpufn.api import log_reading
from gpufn.api.context import Ctx
from gpufn.api.lines import LineStream
from gpufn.api.log_reading import Entry, Wanted
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version
from gpufn.model.errors import NotFound
from gpufn.wire.instances import InstanceDto, InstancesResponse
from gpufn.wire.scalars import Uuid


async def list_instances(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> InstancesResponse:
    """Every recorded instance, ended ones too, with what it does or why it failed."""
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    return InstancesResponse(instances=tuple(InstanceDto.of(i, context.fleet.clusters) for i in seen.instances))


async def stream_logs(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    follow: Annotated[bool, Query()] = False,
    tail: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    instance_id: Annotated[Uuid | None, Query(alias="instanceId")] = None,
    since: Annotated[datetime | None, Query(description="an ISO 8601 time; UTC where it names no zone")] = None,
    request_id: Annotated[Uuid | None, Query(alias="requestId", description="only lines that hold this id")] = None,
) -> Response:
    """What the instances wrote, as lines of ``{instanceId, text}``; with ``follow`` until the client goes.

    ``since`` leaves out what was written before; times are known to about a second.
    """
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    if instance_id is not None and instance_id not in {i.id for i in seen.instances}:
        raise NotFound(f"Function id '{function_id}', version '{version_id}': no instance '{instance_id}' is recorded")
    wanted = Wanted(instance_id, tail, utc(since), request_id)
    if follow:
        return LineStream(encoded(log_reading.follow(context, log_reading.of_version(version_id, instance_id), wanted)))
    return LineStream(encoded(log_reading.kept(context, [i.id for i in seen.instances], wanted)))


def utc(moment: datetime | None) -> datetime | None:
    """A time that a client gave: UTC where it named no zone."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


async def encoded(entries: AsyncGenerator[Entry | None, None]) -> AsyncGenerator[bytes, None]:
    """Lines of JSON; an empty one shows that the server is still there."""
    try:
        async for entry in entries:
            yield b"\n" if entry is None else _line(entry)
    finally:
        await entries.aclose()


def _line(entry: Entry) -> bytes:
    return json.dumps({"instanceId": entry.instance_id, "text": entry.text}, separators=(",", ":")).encode() + b"\n"
