"""What an account may use, for services that ask by account: names of GPUs, regions, clusters, attributes, and instance
types (clusters page, section 2.1). Only clusters count in which something could be placed now.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpufn.api.across import AccountPath
from gpufn.api.cluster_management import require_account
from gpufn.api.context import Context, Ctx
from gpufn.api.security import Caller
from gpufn.model.access import Principal
from gpufn.model.cluster import Cluster, ClusterMode, gpu_names, groups
from gpufn.wire.clusters import (
    AttributesResponse,
    ClusterGroupDto,
    ClusterGroupsResponse,
    ClusterNamesResponse,
    GpusResponse,
    InstanceTypeDetails,
    RegionsResponse,
)


async def list_cluster_groups(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> ClusterGroupsResponse:
    """The groups of the account."""
    found = groups(await _usable(context, caller, nca_id))
    return ClusterGroupsResponse(cluster_groups=tuple(ClusterGroupDto.of(members) for members in found.values()))


async def list_gpus(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> GpusResponse:
    """The names of GPUs, in order."""
    return GpusResponse(gpus=tuple(sorted(gpu_names(await _usable(context, caller, nca_id)))))


async def list_regions(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> RegionsResponse:
    """The regions, in lower case."""
    found = {cluster.region.lower() for cluster in await _usable(context, caller, nca_id)}
    return RegionsResponse(regions=tuple(sorted(found)))


async def list_cluster_names(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> ClusterNamesResponse:
    """The names of clusters."""
    found = {cluster.name for cluster in await _usable(context, caller, nca_id)}
    return ClusterNamesResponse(cluster_names=tuple(sorted(found)))


async def list_attributes(caller: Caller, context: Ctx, *, nca_id: AccountPath) -> AttributesResponse:
    """The attributes of clusters, their own ones too."""
    usable = await _usable(context, caller, nca_id)
    found = {a for cluster in usable for a in (*cluster.attributes, *cluster.custom_attributes)}
    return AttributesResponse(attributes=tuple(sorted(found)))


async def list_instance_types(
    caller: Caller, context: Ctx, *, nca_id: AccountPath
) -> dict[str, tuple[InstanceTypeDetails, ...]]:
    """By GPU its instance types, each with where it is."""
    usable = await _usable(context, caller, nca_id)
    return {name: InstanceTypeDetails.every(name, usable) for name in sorted(gpu_names(usable))}


async def _usable(context: Context, caller: Principal, nca_id: str) -> Sequence[Cluster]:
    await context.db.run(lambda tx: require_account(tx, caller, nca_id))
    admitting = context.fleet.clusters.admitting(nca_id)
    return [c for c in admitting if c.answers and c.mode is ClusterMode.READY]
