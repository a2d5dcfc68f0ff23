"""How many instances of each type an account may use now (control-plane page, section 20; tasks page, section 4)."""

from __future__ import annotations

from gpufn.model.cluster import Cluster
from gpufn.wire.base import Wire

PROVIDER = "ON-PREM"


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
    def of(cluster: Cluster, gpu: str, instance_type: str, *, least: int, most: int) -> GpuUsageDto:
        """All of it is in the one cluster there is."""
        place = GpuPlacementDto(
            cluster_id=cluster.id,
            cluster=cluster.name,
            cluster_group_id=cluster.group_id,
            cluster_group=cluster.group_name,
            cloud_provider=PROVIDER,
            region=cluster.region,
            current_max_usage=most,
            current_min_usage=least,
        )
        return GpuUsageDto(
            gpu=gpu, instance_type=instance_type, current_max_usage=most, current_min_usage=least, placements=(place,)
        )


class GpuUsageResponse(Wire):
    """What an account uses."""

    gpus: tuple[GpuUsageDto, ...]
