"""Whether the control plane answers, and how the installation is doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Response

from gpufn.api.context import Context, Ctx
from gpufn.api.security import Caller
from gpufn.api.views import Seen, known_versions
from gpufn.model.access import Principal
from gpufn.model.sharing import Relation
from gpufn.runtime.clock import loop_now
from gpufn.wire.clusters import merged
from gpufn.wire.platform import BackendDto, CountsDto, HealthStatus, InfoDto, StatusResponse


async def health(context: Ctx, response: Response) -> HealthStatus:
    """The control plane answers (control-plane page, section 22); 503 while the database cannot be written.

    Anyone may ask, so what is wrong is told by ``status`` only.
    """
    if not await context.database_problem():
        return HealthStatus(status="UP")
    response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return HealthStatus(status="DOWN", detail="the database cannot be written now; `gpufn status` says why")


async def info(context: Ctx) -> InfoDto:
    """Service and version, for anyone."""
    return InfoDto(service="gpufn", version=context.version)


async def status(caller: Caller, context: Ctx) -> StatusResponse:
    """Version, uptime, compute backends, GPUs, and the counts of what the caller's key reaches."""

    counted, of_functions, now = Counter[str](), set[str](), loop_now()
    async for page in known_versions(context.db, caller, frozenset((Relation.PUBLIC, Relation.PRIVATE))):
        seen = _own(caller, page)
        of_functions.update(s.version.function_id for s in seen)
        counted.update(_counts(context, seen, now))
    problem = await context.database_problem()
    return StatusResponse(
        version=context.version,
        nca_id=caller.nca_id,
        started_at=context.started_at,
        uptime_seconds=round((context.now() - context.started_at).total_seconds(), 3),
        counts=CountsDto(
            functions=len(of_functions),
            versions=counted["versions"],
            deployments=counted["deployments"],
            instances=counted["instances"],
            queued=counted["queued"],
            in_flight=counted["in_flight"],
        ),
        database=BackendDto(name="database", working=not problem, detail=problem),
        backends=tuple(BackendDto(name=b.name, working=b.working, detail=b.detail) for b in await context.backends()),
        gpus=merged(context.fleet.clusters.admitting(caller.nca_id)),
    )


def _own(caller: Principal, page: Sequence[Seen]) -> list[Seen]:
    """What belongs to the caller's account and is within its key's reach."""
    own = (s for s in page if s.version.nca_id == caller.nca_id)
    return [s for s in own if caller.reaches_version(s.version.function_id, s.version.id)]


def _counts(context: Context, seen: Sequence[Seen], now: float) -> dict[str, int]:
    loads = [context.load.load(s.version.id, now=now) for s in seen]
    return {
        "versions": len(seen),
        "deployments": sum(s.deployment is not None for s in seen),
        "instances": sum(i.is_live for s in seen for i in s.instances),
        "queued": sum(load.queued for load in loads),
        "in_flight": sum(load.in_flight for load in loads),
    }
