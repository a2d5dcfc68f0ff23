"""GPUs, instance types and cluster groups as clients see them (control-plane page, sections 18 and 20)."""

from __future__ import annotations

from collections.abc import Sequence

from gpufn.model.cluster import Cluster, Gpu
from gpufn.wire.base import Wire


class SupportedGpuDto(Wire):
    """A GPU and the cluster group that offers it."""

    gpu: str
    backend: str

    @staticmethod
    def every(clusters: Sequence[Cluster]) -> tuple[SupportedGpuDto, ...]:
        """Each pair once."""
        pairs = dict.fromkeys((gpu.name, cluster.group_name) for cluster in clusters for gpu in cluster.gpus)
        return tuple(SupportedGpuDto(gpu=gpu, backend=group) for gpu, group in pairs)


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
    def of(members: Sequence[Cluster]) -> ClusterGroupDto:
        """The group of these clusters, of which there is at least one."""
        first = members[0]
        return ClusterGroupDto(
            id=first.group_id,
            name=first.group_name,
            nca_id=first.nca_id,
            authorized_nca_ids=tuple(dict.fromkeys(a for c in members for a in c.authorized)),
            gpus=merged(members),
            clusters=tuple(ClusterDto(id=c.id, name=c.name, k8s_version=c.details.get("k8sVersion")) for c in members),
        )


def merged(members: Sequence[Cluster]) -> tuple[GpuDto, ...]:
    """The GPUs of all of them by name: capacities add up, and instance types are those of any. A name is emulated when
    nobody has it for real.
    """
    found: dict[str, GpuDto] = {}
    for gpu in (gpu for cluster in members for gpu in cluster.gpus):
        new, old = GpuDto.of(gpu), found.get(gpu.name)
        if old is not None and (old.emulated, new.emulated) == (False, True):
            continue
        if old is not None and old.emulated == new.emulated:
            types = {t.name: t for t in (*new.instance_types, *old.instance_types)}
            both = {"capacity": old.capacity + new.capacity, "instance_types": tuple(types.values())}
            new = new.model_copy(update=both)
        found[gpu.name] = new
    return tuple(found.values())


class ClusterGroupsResponse(Wire):
    """The groups of the caller's account."""

    cluster_groups: tuple[ClusterGroupDto, ...]
