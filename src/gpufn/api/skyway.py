"""Live access to instances as ngcsdk calls it: ``…/skyway/{instances,logs,commands}`` (clusters page, section 8).

An instance is one process or one container here, so it is its own only pod, with one container.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query, Response

from gpufn.api import log_reading
from gpufn.api.context import Context, Ctx
from gpufn.api.lines import LineStream
from gpufn.api.log_reading import Entry, Wanted
from gpufn.api.logs import utc
from gpufn.api.parameters import FunctionIdPath, VersionIdPath
from gpufn.api.security import Caller
from gpufn.api.views import own_version
from gpufn.model.errors import Invalid, NotFound
from gpufn.runtime.clock import loop_now
from gpufn.wire.instances import SkywayInstanceDto, SkywayInstancesResponse
from gpufn.wire.scalars import Uuid

SINCE_DEFAULT = timedelta(hours=1)
TIMEOUT, TIMEOUT_MAX = 300, 3600
"""Seconds for which lines are sent (section 8: the client's default), and the most."""
_SINCE = re.compile(r"([1-9][0-9]{0,5})([smh])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


async def skyway_instances(
    caller: Caller, context: Ctx, *, function_id: FunctionIdPath, version_id: VersionIdPath
) -> SkywayInstancesResponse:
    """The instances of a version that live."""
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    shown = (SkywayInstanceDto.of(i, context.fleet.clusters) for i in seen.instances)
    clusters = context.fleet.clusters
    places = (clusters.get(i.cluster_id) for i in seen.instances if i.is_live)
    groups = sorted({cluster.group_name for cluster in places if cluster is not None})
    return SkywayInstancesResponse(
        function_id=function_id,
        function_version_id=version_id,
        backend=", ".join(groups) or clusters.local.group_name,
        instances=tuple(dto for dto in shown if dto is not None),
    )


async def skyway_logs(
    caller: Caller,
    context: Ctx,
    *,
    function_id: FunctionIdPath,
    version_id: VersionIdPath,
    instance_id: Annotated[Uuid, Query(alias="instanceId")],
    since: Annotated[str | None, Query(max_length=16)] = None,
    since_time: Annotated[datetime | None, Query(alias="sinceTime")] = None,
    seconds: Annotated[int, Query(alias="timeout", ge=1, le=TIMEOUT_MAX)] = TIMEOUT,
) -> Response:
    """What one instance writes, as server-sent events, one line each, until it ends or the time is over."""
    seen = await context.db.run(lambda tx: own_version(tx, caller, function_id, version_id))
    if instance_id not in {i.id for i in seen.instances}:
        raise NotFound(f"Function id '{function_id}', version '{version_id}': no instance '{instance_id}' is recorded")
    wanted = Wanted(instance_id, since=start_of(context, since, since_time))
    lines = events_until(
        log_reading.follow(context, log_reading.of_version(version_id, instance_id), wanted), until=loop_now() + seconds
    )
    return LineStream(lines, media_type="text/event-stream")


def start_of(context: Context, since: str | None, since_time: datetime | None) -> datetime:
    """What is older is not sent. Raises Invalid."""
    if since is not None and since_time is not None:
        raise Invalid("since, sinceTime: only one of them may be given")
    if since_time is not None:
        return utc(since_time) or since_time
    if since is None:
        return context.now() - SINCE_DEFAULT
    found = _SINCE.fullmatch(since)
    if found is None:
        raise Invalid(f"since: '{since}' is no duration; write it like 5s, 2m or 3h")
    return context.now() - timedelta(**{_UNITS[found[2]]: int(found[1])})


async def events_until(entries: AsyncGenerator[Entry | None, None], *, until: float) -> AsyncGenerator[bytes, None]:
    """Each line as an event; a comment shows that the server is still there. The end comes with the first of them
    after ``until``.
    """
    try:
        async for entry in entries:
            if loop_now() >= until:
                return
            yield b":\n\n" if entry is None else b"data: " + _one_line(entry.text).encode() + b"\n\n"
    finally:
        await entries.aclose()


def _one_line(text: str) -> str:
    """``text`` without what would end the event's line."""
    return text.replace("\r", "\\r")
