"""GPUs and cluster groups (control-plane page, sections 18 and 20).

The reference answers these to client tokens (JWT) only. This release knows API keys alone, so a key that carries the
scope may read them; a key of an ordinary user does not carry it and is refused as there.
"""

from __future__ import annotations

from gpufn.api.context import Ctx
from gpufn.api.security import Caller
from gpufn.model.cluster import groups
from gpufn.wire.clusters import ClusterGroupDto, ClusterGroupsResponse, SupportedGpuDto


async def supported_gpus(caller: Caller, context: Ctx) -> tuple[SupportedGpuDto, ...]:
    """Every GPU that a deployment may name."""
    return SupportedGpuDto.every(context.fleet.clusters.admitting(caller.nca_id))


async def cluster_groups(caller: Caller, context: Ctx) -> ClusterGroupsResponse:
    """The cluster groups of the account, with their GPUs and instance types."""
    return ClusterGroupsResponse(
        cluster_groups=tuple(
            ClusterGroupDto.of(members) for members in groups(context.fleet.clusters.admitting(caller.nca_id)).values()
        )
    )
