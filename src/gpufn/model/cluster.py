"""GPUs, and the clusters they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from gpufn.model.ids import DEFAULT_ACCOUNT, AccountId

EVERYONE = "*"
"""Among the authorized accounts: all of them (clusters page, section 1)."""
ABANDONED_AFTER = timedelta(days=30)
"""Silence after which a cluster is taken for given up (clusters page, section 3.3)."""


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
    """Of all its devices together, as ``80Gi`` or ``81559Mi``."""
    cpu_cores: int | None = None


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


class ClusterKind(StrEnum):
    """What runs the instances of a cluster."""

    LOCAL = "local"
    """This machine: processes, and its container engine."""
    DOCKER = "docker"
    """A container engine that is reached through its API."""
    AGENT = "agent"
    """An agent of its own, which registers and sends heartbeats; gpufn itself starts nothing there."""


class ClusterMode(StrEnum):
    """What its operator wants of a cluster (clusters page, sections 1.1 and 4.1)."""

    READY = "READY"
    CORDON = "CORDON"
    """Nothing new is placed there; what runs goes on."""
    CORDON_AND_DRAIN = "CORDON_AND_DRAIN"
    """Nothing new is placed there, and what runs moves elsewhere."""


class ClusterStatus(StrEnum):
    """``status`` on the wire (clusters page, section 1.1), derived by ``Cluster.status``."""

    NOT_READY = "NOT_READY"
    READY = "READY"
    UNHEALTHY = "UNHEALTHY"
    CORDON = "CORDON"
    CORDON_AND_DRAIN = "CORDON_AND_DRAIN"
    ABANDONED = "ABANDONED"


@dataclass(frozen=True)
class Connection:
    """How a container engine is reached, and how what runs on it is. Its TLS files are secrets, and not here."""

    url: str
    """``unix:///PATH``, ``tcp://HOST:PORT`` or ``ssh://USER@HOST``."""
    address: str
    """Where published ports of that machine are reached from here."""
    publish: str
    """On which address of that machine ports are published."""
    shares_files: bool = False
    """Whether the data directory is there, at the same path: then instances get input assets, and tasks can run."""


@dataclass(frozen=True)
class Health:
    """What is observed of a cluster. Writer: ``controllers/clusters``."""

    seen_at: datetime | None = None
    """When it last answered."""
    failing_at: datetime | None = None
    """Since when it does not answer."""
    lost_at: datetime | None = None
    """When it was given up: what ran there is replaced, and ended there before it is used again."""
    problem: str = ""
    """What is wrong now, for people."""


@dataclass(frozen=True)
class Cluster:
    """One cluster; its group's name is the ``backend`` of deployment specifications."""

    id: str
    name: str
    group_id: str
    group_name: str
    region: str
    gpus: tuple[Gpu, ...]
    nca_id: AccountId = DEFAULT_ACCOUNT
    """Who owns it."""
    authorized: tuple[str, ...] = (EVERYONE,)
    """The accounts beside its owner whose instances it runs."""
    kind: ClusterKind = ClusterKind.LOCAL
    provider: str = "ON-PREM"
    zone: str = ""
    """Its availability zone; empty: its name."""
    attributes: tuple[str, ...] = ()
    custom_attributes: tuple[str, ...] = ()
    connection: Connection | None = None
    stands_for_any: bool = False
    """Whether it may stand for whatever cluster, region, zone and attribute a specification names, as long as it is
    the only cluster.
    """
    mode: ClusterMode = ClusterMode.READY
    mode_at: datetime | None = None
    health: Health = Health()
    details: Mapping[str, Any] = field(default_factory=dict)
    """What clients keep here and nothing is decided from, by its name on the wire: ``clusterDescription``, versions."""

    def gpu(self, name: str) -> Gpu | None:
        """The GPU of that name, compared without case."""
        return next((g for g in self.gpus if g.name.lower() == name.lower()), None)

    def status(self, now: datetime) -> ClusterStatus:
        """The public status: what its operator wants, unless what is seen is worse."""
        if self.kind is not ClusterKind.LOCAL:
            seen = self.health.seen_at
            if seen is None:
                return ClusterStatus.NOT_READY
            if self.health.failing_at is not None and now - seen >= ABANDONED_AFTER:
                return ClusterStatus.ABANDONED
            if self.health.failing_at is not None:
                return ClusterStatus.UNHEALTHY
        return ClusterStatus(self.mode.value)

    @property
    def answers(self) -> bool:
        """Whether instances can be started there, as far as is known."""
        if self.kind is ClusterKind.LOCAL:
            return True
        return self.kind is not ClusterKind.AGENT and self.health.seen_at is not None and self.health.failing_at is None

    @property
    def is_silent(self) -> bool:
        """Whether it does not answer just now, and is not given up either."""
        return self.health.failing_at is not None and self.health.lost_at is None

    @property
    def is_lost(self) -> bool:
        """Whether it was given up."""
        return self.health.lost_at is not None

    @property
    def shares_files(self) -> bool:
        """Whether instances there see directories of this machine."""
        if self.kind is ClusterKind.LOCAL:
            return True
        return self.connection is not None and self.connection.shares_files

    def admits(self, nca_id: str) -> bool:
        """Whether it runs instances of the account."""
        return nca_id == self.nca_id or EVERYONE in self.authorized or nca_id in self.authorized


@dataclass(frozen=True)
class Clusters:
    """Every cluster of the installation, as known at one moment. The local one is the first."""

    all: tuple[Cluster, ...]

    def get(self, cluster_id: str) -> Cluster | None:
        """The cluster of that id; an empty one is the local cluster's, for what was recorded when it was the only."""
        return self._by_id.get(cluster_id) if cluster_id else self.local

    @cached_property
    def _by_id(self) -> dict[str, Cluster]:
        return {cluster.id: cluster for cluster in self.all}

    @property
    def local(self) -> Cluster:
        """This machine."""
        return self.all[0]

    def admitting(self, nca_id: str) -> tuple[Cluster, ...]:
        """Those in which instances of the account can be placed."""
        return tuple(c for c in self.all if c.kind is not ClusterKind.AGENT and c.admits(nca_id))

    def shape(self, gpu: str, instance_type: str) -> tuple[Gpu, InstanceType] | None:
        """A GPU and an instance type by their names, as the first cluster that has them knows them."""
        for cluster in self.all:
            found = cluster.gpu(gpu)
            kind = found.instance_type(instance_type) if found is not None else None
            if found is not None and kind is not None:
                return found, kind
        return None


def groups(clusters: Iterable[Cluster]) -> dict[str, list[Cluster]]:
    """The clusters by the id of their group, in their order."""
    found: dict[str, list[Cluster]] = {}
    for cluster in clusters:
        found.setdefault(cluster.group_id, []).append(cluster)
    return found


def gpu_names(clusters: Sequence[Cluster]) -> tuple[str, ...]:
    """The GPUs of all of them, each once, in their order."""
    return tuple(dict.fromkeys(gpu.name for cluster in clusters for gpu in cluster.gpus))
