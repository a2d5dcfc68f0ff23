"""Clusters as their operators register and see them (clusters page, sections 2.2 and 2.3).

``docker``, ``availabilityZone``, ``emulated`` and all of ``kind``, ``mode``, ``problem`` are gpufn's own members.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field

from gpufn.model.cluster import Cluster, ClusterMode, Connection, Gpu, InstanceType
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Int, Timestamp, absent_if_blank, member, names_of

LIST_MAX = 256
CONFIGURATION_MAX = 64
PEM_MAX = 65_536

Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
Words: TypeAlias = Annotated[
    tuple[Annotated[str, Field(max_length=128)], ...],
    BeforeValidator(lambda v: () if v is None else v),
    Field(max_length=LIST_MAX),
]
OptionalWord: TypeAlias = Annotated[Annotated[str, Field(max_length=256)] | None, BeforeValidator(absent_if_blank)]
Settings: TypeAlias = Annotated[
    dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=65_536)]],
    BeforeValidator(lambda v: {} if v is None else v),
    Field(max_length=CONFIGURATION_MAX),
]
Pem: TypeAlias = Annotated[str, Field(min_length=1, max_length=PEM_MAX)]
AnyMode: TypeAlias = Annotated[ClusterMode, BeforeValidator(partial(member, ClusterMode)), names_of(ClusterMode)]


def _no_controls(text: str) -> str:
    if not text.isprintable() or any(c.isspace() for c in text):
        raise ValueError("must hold no blanks")
    return text


Url: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_no_controls)]


class InstanceTypeInventory(Wire):
    """A shape an instance can have there (section 1.2)."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(min_length=1, max_length=128)]
    description: Annotated[str, Field(max_length=512)] = ""
    default: bool = False
    gpu_count: Annotated[Int, Field(ge=0, le=1024)] = 1
    cpu_cores: Annotated[Int, Field(ge=0)] | None = None
    system_memory: OptionalWord = None
    gpu_memory: OptionalWord = None
    cpu_arch: OptionalWord = None
    os: OptionalWord = None
    driver_version: OptionalWord = None
    storage: OptionalWord = None
    node_type: OptionalWord = None

    def to_model(self) -> InstanceType:
        """The same for the rest of the program; more than one node is not known there."""
        return InstanceType(**self.model_dump(exclude={"node_type"}))

    @staticmethod
    def of(shape: InstanceType) -> InstanceTypeInventory:
        names = set(InstanceTypeInventory.model_fields) - {"node_type"}
        return InstanceTypeInventory(**{name: getattr(shape, name) for name in names}, node_type="SINGLE")


class GpuInventory(Wire):
    """A GPU of a cluster."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    capacity: Annotated[Int, Field(ge=0, le=100_000)] = 0
    instance_types: Annotated[tuple[InstanceTypeInventory, ...], Field(max_length=64)] = ()
    emulated: bool = False

    def to_model(self) -> Gpu:
        """The same for the rest of the program."""
        return Gpu(self.name, self.capacity, tuple(t.to_model() for t in self.instance_types), self.emulated)

    @staticmethod
    def of(gpu: Gpu) -> GpuInventory:
        types = tuple(InstanceTypeInventory.of(t) for t in gpu.instance_types)
        return GpuInventory(name=gpu.name, capacity=gpu.capacity, instance_types=types, emulated=gpu.emulated)


class TlsFiles(Wire):
    """What proves this installation to the engine, and the engine to it: the texts of PEM files."""

    ca: Pem
    cert: Pem
    key: Annotated[Pem, Field(repr=False)]


class DockerDto(Wire):
    """How a container engine is reached, and how what runs on it is."""

    url: Url
    address: OptionalWord = None
    """Where ports of that machine are reached. Absent: the host in ``url``; for a socket 127.0.0.1."""
    publish: OptionalWord = None
    """On which address of that machine ports are published. Absent: ``address``, which then is an IP address."""
    shares_files: bool | None = None
    """Whether the data directory is there, at the same path. Absent: for a socket, yes."""
    tls: TlsFiles | None = None
    """Never shown; kept when an update leaves it out."""

    @staticmethod
    def of(connection: Connection) -> DockerDto:
        return DockerDto(
            url=connection.url,
            address=connection.address,
            publish=connection.publish,
            shares_files=connection.shares_files,
        )


class ClusterUpdateRequest(Wire):
    """The body of PUT: all that may change."""

    cluster_group_name: Word
    cluster_description: OptionalWord = None
    authorized_nca_ids: Annotated[Words, Field(alias="authorizedNCAIds")] = ()
    cloud_provider: Word = "ON-PREM"
    capabilities: Words = ()
    attributes: Words = ()
    custom_attributes: Words = ()
    gpus: Annotated[tuple[GpuInventory, ...], BeforeValidator(lambda v: v or ()), Field(max_length=64)] = ()
    nvca_version: OptionalWord = None
    region: Word = "local"
    cluster_key_id: OptionalWord = None
    cluster_source: OptionalWord = None
    cluster_configurations: Settings = Field(default_factory=dict)
    cluster_configuration_files: Settings = Field(default_factory=dict)
    availability_zone: OptionalWord = None
    docker: DockerDto | None = None

    def details(self) -> dict[str, Any]:
        """What is kept and shown again, and decides nothing."""
        kept = {
            "clusterDescription": self.cluster_description,
            "capabilities": list(self.capabilities),
            "nvcaVersion": self.nvca_version,
            "clusterKeyId": self.cluster_key_id,
            "clusterSource": self.cluster_source or "ngc-managed",
            "clusterConfigurations": self.cluster_configurations or None,
            "clusterConfigurationFiles": self.cluster_configuration_files or None,
        }
        return {name: value for name, value in kept.items() if value is not None}


class ClusterCreateRequest(ClusterUpdateRequest):
    """The body of POST."""

    cluster_name: Word
    nca_id: Word
    o_auth_client_id: Annotated[
        OptionalWord,
        Field(validation_alias=AliasChoices("oAuthClientId", "oauthClientId", "OAuthClientId", "ssaClientId")),
    ] = None


class ModeRequest(Wire):
    """The body of a change of mode."""

    mode: AnyMode


class ClusterCreated(Wire):
    """The ids of a new cluster and its group."""

    cluster_id: str
    cluster_group_id: str


class GpuInUse(Wire):
    """Devices of one GPU: there, taken, free."""

    capacity: int
    allocated: int
    available: int


class RegisteredClusterDto(Wire):
    """A cluster as its operator sees it."""

    cluster_id: str
    cluster_name: str
    cluster_group_id: str
    cluster_group_name: str
    cluster_description: str | None = None
    nca_id: str
    authorized_nca_ids: Annotated[tuple[str, ...], Field(alias="authorizedNCAIds")]
    cloud_provider: str
    capabilities: tuple[str, ...] = ()
    attributes: tuple[str, ...]
    custom_attributes: tuple[str, ...]
    gpus: tuple[GpuInventory, ...]
    gpu_usage: dict[str, GpuInUse]
    nvca_version: str | None = None
    nvca_last_connected: Timestamp | None = None
    k8s_version: str | None = None
    region: str
    availability_zone: str | None = None
    status: str
    cluster_source: str | None = None
    cluster_key_id: str | None = None
    ssa_client_id: str | None = None
    o_auth_client_id: str | None = None
    cluster_configurations: dict[str, str] | None = None
    cluster_configuration_files: dict[str, str] | None = None
    kind: str
    mode: str
    problem: str | None = None
    docker: DockerDto | None = None
    instances: int
    """Those that live there, tasks' too."""

    @staticmethod
    def of(cluster: Cluster, held: Mapping[str, int], instances: int, now: datetime) -> RegisteredClusterDto:
        """``held``: the devices in use by GPU; ``instances``: how many live there."""
        return RegisteredClusterDto(
            **cluster.details,
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            cluster_group_id=cluster.group_id,
            cluster_group_name=cluster.group_name,
            nca_id=cluster.nca_id,
            authorized_nca_ids=cluster.authorized,
            cloud_provider=cluster.provider,
            attributes=cluster.attributes,
            custom_attributes=cluster.custom_attributes,
            gpus=tuple(GpuInventory.of(gpu) for gpu in cluster.gpus),
            gpu_usage={gpu.name: _in_use(gpu, held.get(gpu.name, 0)) for gpu in cluster.gpus},
            nvca_last_connected=cluster.health.seen_at,
            region=cluster.region,
            availability_zone=cluster.zone or None,
            status=cluster.status(now).value,
            kind=cluster.kind.value,
            mode=cluster.mode.value,
            problem=cluster.health.problem or None,
            docker=DockerDto.of(cluster.connection) if cluster.connection is not None else None,
            instances=instances,
        )


def _in_use(gpu: Gpu, held: int) -> GpuInUse:
    return GpuInUse(capacity=gpu.capacity, allocated=held, available=max(0, gpu.capacity - held))


class ClusterVersionsResponse(Wire):
    """What a registration may say."""

    nvca_versions: tuple[dict[str, str], ...] = ()
    """Versions of NVCF's agent; gpufn has none."""
    cluster_regions: tuple[str, ...]
    cluster_sources: tuple[str, ...]
    cluster_attributes: tuple[str, ...]
    cluster_capabilities: tuple[str, ...]
