"""What happened to functions, deployments and instances. gpufn's own route."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query

from gpufn.api.context import Ctx
from gpufn.api.logs import utc
from gpufn.api.security import Caller
from gpufn.store import events
from gpufn.wire.events import EventDto, EventsResponse
from gpufn.wire.scalars import Uuid

LIMIT, LIMIT_MAX = 100, 1000
ID_MAX = 2**53
"""Largest event id that is understood: what JSON numbers hold exactly."""


async def list_events(
    caller: Caller,
    context: Ctx,
    *,
    function_id: Annotated[Uuid | None, Query(alias="functionId")] = None,
    version_id: Annotated[Uuid | None, Query(alias="functionVersionId")] = None,
    deployment_id: Annotated[Uuid | None, Query(alias="deploymentId")] = None,
    instance_id: Annotated[Uuid | None, Query(alias="instanceId")] = None,
    since: Annotated[datetime | None, Query(description="an ISO 8601 time; UTC where it names no zone")] = None,
    after: Annotated[int, Query(ge=0, le=ID_MAX, description="an eventId: only what was written later")] = 0,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT,
) -> EventsResponse:
    """The last events within the key's reach that match, oldest first; with ``after`` the first that follow it.

    Events outlive what they tell of, so an id that is not known any more is no error.
    """
    wanted = events.Wanted(
        nca_id=caller.nca_id,
        function_id=function_id,
        version_id=version_id,
        deployment_id=deployment_id,
        instance_id=instance_id,
        since=utc(since),
        after=after,
    )
    found = await context.db.run(lambda tx: events.latest(tx, wanted, limit=limit))
    reached = (e for e in found if caller.reaches_version(e.function_id, e.version_id))
    return EventsResponse(events=tuple(EventDto.of(e) for e in reached))
