"""What the active tasks of an account use (tasks page, section 4, ``usage/gpus``): only for admins."""

from __future__ import annotations

from collections import Counter

from gpufn.api.context import Ctx
from gpufn.api.security import Caller
from gpufn.model.cluster import Cluster
from gpufn.store import tasks
from gpufn.wire.task_views import GpuPlacementDto, GpuUsageDto, GpuUsageResponse

PROVIDER = "ON-PREM"


async def get_gpu_usage(caller: Caller, context: Ctx) -> GpuUsageResponse:
    """How many instances of each type are queued, launched or running: one for each task."""
    active = await context.db.run(lambda tx: tasks.active(tx, caller.nca_id))
    used = Counter((task.definition.gpu, task.definition.instance_type) for task in active)
    return GpuUsageResponse(
        gpus=tuple(_of(context.cluster, gpu, kind, count) for (gpu, kind), count in sorted(used.items()))
    )


def _of(cluster: Cluster, gpu: str, instance_type: str, count: int) -> GpuUsageDto:
    """All of it is in the one cluster there is."""
    place = GpuPlacementDto(
        cluster_id=cluster.id,
        cluster=cluster.name,
        cluster_group_id=cluster.group_id,
        cluster_group=cluster.group_name,
        cloud_provider=PROVIDER,
        region=cluster.region,
        current_max_usage=count,
        current_min_usage=count,
    )
    return GpuUsageDto(
        gpu=gpu, instance_type=instance_type, current_max_usage=count, current_min_usage=count, placements=(place,)
    )
