"""What the active tasks of an account use (tasks page, section 4, ``usage/gpus``): only for admins."""

from __future__ import annotations

from collections import Counter

from gpufn.api.context import Ctx
from gpufn.api.security import Caller
from gpufn.store import tasks
from gpufn.wire.gpu_usage import GpuUsageDto, GpuUsageResponse


async def get_gpu_usage(caller: Caller, context: Ctx) -> GpuUsageResponse:
    """How many instances of each type are queued, launched or running: one for each task."""
    active = await context.db.run(lambda tx: tasks.active(tx, caller.nca_id))
    used = Counter((task.definition.gpu, task.definition.instance_type) for task in active)
    gpus = (
        GpuUsageDto.of(context.cluster, gpu, kind, least=count, most=count)
        for (gpu, kind), count in sorted(used.items())
    )
    return GpuUsageResponse(gpus=tuple(gpus))
