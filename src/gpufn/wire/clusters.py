"""GPUs, instance types and cluster groups as clients see them (control-plane page, sections 18 and 20)."""

from __future__ import annotations

from gpufn.model.cluster import Cluster, Gpu
from gpufn.wire.base import Wire


class SupportedGpuDto(Wire):
    """A GPU and the cluster group that offers it."""

    gpu: str
    backend: str


class InstanceTypeDto(Wire):
    """A shape an instance can have."""

    name: str
    value: str
    description: str
    default: bool


class GpuDto(Wire):
    """One kind of GPU. ``capacity`` and ``emulated`` are gpufn's own members."""

    name: str
    capacity: int
    emulated: bool
    instance_types: tuple[InstanceTypeDto, ...]

    @staticmethod
    def of(gpu: Gpu) -> GpuDto:
        return GpuDto(
            name=gpu.name,
            capacity=gpu.capacity,
            emulated=gpu.emulated,
            instance_types=tuple(
                InstanceTypeDto(name=t.name, value=t.value, description=t.description, default=t.default)
                for t in gpu.instance_types
            ),
        )


class ClusterDto(Wire):
    """One cluster of a group."""

    id: str
    name: str
    k8s_version: str | None = None


class ClusterGroupDto(Wire):
    """A cluster group: its name is the ``backend`` of specifications."""

    id: str
    name: str
    nca_id: str
    authorized_nca_ids: tuple[str, ...]
    gpus: tuple[GpuDto, ...]
    clusters: tuple[ClusterDto, ...]

    @staticmethod
    def of(cluster: Cluster, nca_id: str) -> ClusterGroupDto:
        return ClusterGroupDto(
            id=cluster.group_id,
            name=cluster.group_name,
            nca_id=nca_id,
            authorized_nca_ids=("*",),
            gpus=tuple(GpuDto.of(gpu) for gpu in cluster.gpus),
            clusters=(ClusterDto(id=cluster.id, name=cluster.name),),
        )


class ClusterGroupsResponse(Wire):
    """The groups of the caller's account."""

    cluster_groups: tuple[ClusterGroupDto, ...]
