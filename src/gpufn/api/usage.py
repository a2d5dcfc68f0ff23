"""What the account's versions have used. gpufn's own route."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query

from gpufn.api.context import Ctx
from gpufn.api.logs import utc
from gpufn.api.security import Caller
from gpufn.model.usage import Usage
from gpufn.store import usage
from gpufn.wire.scalars import Uuid
from gpufn.wire.usage import UsageDto, UsageResponse, VersionUsageDto

SINCE_DEFAULT = timedelta(days=30)


async def get_usage(
    caller: Caller,
    context: Ctx,
    *,
    function_id: Annotated[Uuid | None, Query(alias="functionId")] = None,
    since: Annotated[
        datetime | None, Query(description="an ISO 8601 time; whole hours count (default: 30 days)")
    ] = None,
) -> UsageResponse:
    """Instance seconds, GPU seconds and requests of what the key reaches; deleted versions too."""
    moment = (utc(since) or context.now() - SINCE_DEFAULT).replace(minute=0, second=0, microsecond=0)
    found = await context.db.run(lambda tx: usage.of_account(tx, caller.nca_id, since=moment))
    shown = {ids: used for ids, used in found.items() if caller.reaches_version(*ids) and function_id in (None, ids[0])}
    return UsageResponse(
        since=moment,
        versions=tuple(
            VersionUsageDto(function_id=f, function_version_id=v, usage=UsageDto.of(used))
            for (f, v), used in shown.items()
        ),
        total=UsageDto.of(sum(shown.values(), Usage())),
    )
