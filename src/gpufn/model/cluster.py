"""GPUs and where they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceType:
    """A shape an instance can have: ``ON-PREM.GPU.H100_2x`` is two H100 (clusters page, section 1.3)."""

    name: str
    value: str
    """The name without the multiplier: ``ON-PREM.GPU.H100``."""
    gpu_count: int
    description: str
    default: bool = False
    cpu_arch: str | None = None
    os: str | None = None
    driver_version: str | None = None
    storage: str | None = None
    system_memory: str | None = None
    gpu_memory: str | None = None


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU in a cluster. ``capacity`` counts devices; ``emulated`` means that there are none."""

    name: str
    capacity: int
    instance_types: tuple[InstanceType, ...]
    emulated: bool = False

    def instance_type(self, name: str) -> InstanceType | None:
        """The instance type of that name, compared without case."""
        return next((t for t in self.instance_types if t.name.lower() == name.lower()), None)


@dataclass(frozen=True)
class Cluster:
    """One cluster; its group's name is the ``backend`` of deployment specifications."""

    id: str
    name: str
    group_id: str
    group_name: str
    region: str
    gpus: tuple[Gpu, ...]

    def gpu(self, name: str) -> Gpu | None:
        """The GPU of that name, compared without case."""
        return next((g for g in self.gpus if g.name.lower() == name.lower()), None)
