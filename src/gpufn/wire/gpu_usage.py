"""How many instances of each type an account may use now (control-plane page, section 20; tasks page, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gpufn.model.cluster import Cluster, Clusters
from gpufn.wire.base import Wire


class Range(NamedTuple):
    """How many instances are in use at least, and at most."""

    least: int
    most: int

    def plus(self, other: Range) -> Range:
        """Both together."""
        return Range(self.least + other.least, self.most + other.most)


class GpuPlacementDto(Wire):
    """Where GPUs are in use."""

    cluster_id: str
    cluster: str
    cluster_group_id: str
    cluster_group: str
    cloud_provider: str
    region: str
    current_max_usage: int
    current_min_usage: int


class GpuUsageDto(Wire):
    """How many instances of one type are in use."""

    gpu: str
    instance_type: str
    current_max_usage: int
    current_min_usage: int
    placements: tuple[GpuPlacementDto, ...]

    @staticmethod
    def of(clusters: Clusters, gpu: str, instance_type: str, uses: Mapping[str, Range]) -> GpuUsageDto:
        """``uses`` by cluster id; what is not placed yet (an empty id) is shown in the first cluster that has it."""
        first = next((c for c in clusters.all if c.gpu(gpu) is not None), clusters.local)
        at: dict[str, Range] = {}
        for cluster_id, use in uses.items():
            cluster = (clusters.get(cluster_id) if cluster_id else None) or first
            at[cluster.id] = at.get(cluster.id, Range(0, 0)).plus(use)
        return GpuUsageDto(
            gpu=gpu,
            instance_type=instance_type,
            current_max_usage=sum(use.most for use in uses.values()),
            current_min_usage=sum(use.least for use in uses.values()),
            placements=tuple(_place(clusters.get(where) or first, use) for where, use in at.items()),
        )


def _place(cluster: Cluster, use: Range) -> GpuPlacementDto:
    return GpuPlacementDto(
        cluster_id=cluster.id,
        cluster=cluster.name,
        cluster_group_id=cluster.group_id,
        cluster_group=cluster.group_name,
        cloud_provider=cluster.provider,
        region=cluster.region,
        current_max_usage=use.most,
        current_min_usage=use.least,
    )


class GpuUsageResponse(Wire):
    """What an account uses."""

    gpus: tuple[GpuUsageDto, ...]
