"""What the active tasks of an account use (tasks page, section 4, ``usage/gpus``): only for admins."""

from __future__ import annotations

from collections import Counter

from gpufn.api.context import Ctx
from gpufn.api.security import Caller
from gpufn.store import tasks
from gpufn.wire.gpu_usage import GpuUsageDto, GpuUsageResponse, Range


async def get_gpu_usage(caller: Caller, context: Ctx) -> GpuUsageResponse:
    """How many instances of each type are queued, launched or running: one for each task."""
    active = await context.db.run(lambda tx: tasks.active(tx, caller.nca_id))
    used: dict[tuple[str, str], Counter[str]] = {}
    for task in active:
        kind = task.definition.gpu, task.definition.instance_type
        used.setdefault(kind, Counter())[task.cluster_id] += 1
    clusters = context.fleet.clusters
    gpus = (
        GpuUsageDto.of(clusters, gpu, kind, {where: Range(count, count) for where, count in counts.items()})
        for (gpu, kind), counts in sorted(used.items())
    )
    return GpuUsageResponse(gpus=tuple(gpus))
