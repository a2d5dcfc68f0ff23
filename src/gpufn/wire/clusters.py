"""GPUs, instance types and cluster groups as clients see them (control-plane page, sections 18 and 20)."""

from __future__ import annotations

from collections.abc import Sequence

from gpufn.model.cluster import Cluster, Gpu, InstanceType
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


class GpusResponse(Wire):
    """Names of GPUs."""

    gpus: tuple[str, ...]


class RegionsResponse(Wire):
    """Regions."""

    regions: tuple[str, ...]


class ClusterNamesResponse(Wire):
    """Names of clusters."""

    cluster_names: tuple[str, ...]


class AttributesResponse(Wire):
    """Attributes of clusters."""

    attributes: tuple[str, ...]


class InstanceTypeDetails(Wire):
    """An instance type, and where it is (clusters page, section 2.1)."""

    name: str
    value: str
    description: str
    gpu_name: str
    gpu_count: int
    gpu_memory: str | None = None
    system_memory: str | None = None
    cpu_cores: int | None = None
    cpu_arch: str | None = None
    os: str | None = None
    driver_version: str | None = None
    storage: str | None = None
    node_type: str = "SINGLE"
    defaultable: bool
    clusters: tuple[str, ...]
    regions: tuple[str, ...]
    attributes: tuple[str, ...]

    @staticmethod
    def every(gpu: str, clusters: Sequence[Cluster]) -> tuple[InstanceTypeDetails, ...]:
        """Those of one GPU by name, as the first cluster describes each."""
        at: dict[str, list[Cluster]] = {}
        shapes: dict[str, InstanceType] = {}
        for cluster in clusters:
            found = cluster.gpu(gpu)
            for shape in found.instance_types if found is not None else ():
                shapes.setdefault(shape.name, shape)
                at.setdefault(shape.name, []).append(cluster)
        return tuple(_details(gpu, shapes[name], at[name]) for name in sorted(shapes))


def _details(gpu: str, shape: InstanceType, clusters: Sequence[Cluster]) -> InstanceTypeDetails:
    attributes = {a for c in clusters for a in (*c.attributes, *c.custom_attributes)}
    return InstanceTypeDetails(
        name=shape.name,
        value=shape.value,
        description=shape.description,
        gpu_name=gpu,
        gpu_count=shape.gpu_count,
        gpu_memory=shape.gpu_memory,
        system_memory=shape.system_memory,
        cpu_cores=shape.cpu_cores,
        cpu_arch=shape.cpu_arch,
        os=shape.os,
        driver_version=shape.driver_version,
        storage=shape.storage,
        defaultable=shape.default,
        clusters=tuple(sorted({c.name for c in clusters})),
        regions=tuple(sorted({c.region.lower() for c in clusters})),
        attributes=tuple(sorted(attributes)),
    )
