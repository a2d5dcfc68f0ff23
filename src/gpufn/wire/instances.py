"""Instances as clients see them: NVCF's short list of those that live, and gpufn's full record."""

from __future__ import annotations

from gpufn.model.cluster import Clusters
from gpufn.model.instance import Instance, InstanceStatus
from gpufn.model.startup import spans
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Timestamp

S = InstanceStatus

_SHOWN: dict[InstanceStatus, str] = {
    S.PENDING: "STARTING",
    S.STARTING: "STARTING",
    S.READY: "RUNNING",
    S.UNHEALTHY: "RUNNING",
    S.DRAINING: "RUNNING",
}
CONTAINER = "inference"
"""What the one container of an instance is called."""


class ActiveInstanceDto(Wire):
    """An element of ``activeInstances`` (control-plane page, section 6.6). The request id goes by both its names."""

    instance_id: str
    function_id: str
    function_version_id: str
    instance_type: str
    instance_status: str
    icms_request_id: str
    sis_request_id: str
    nca_id: str
    gpu: str
    backend: str
    location: str
    instance_created_at: Timestamp
    instance_updated_at: Timestamp

    @staticmethod
    def of(instance: Instance, clusters: Clusters) -> ActiveInstanceDto | None:
        """None for an instance that has ended: those are not listed."""
        status = _SHOWN.get(instance.status)
        if status is None:
            return None
        cluster = clusters.get(instance.cluster_id) or clusters.local
        return ActiveInstanceDto(
            instance_id=instance.id,
            function_id=instance.function_id,
            function_version_id=instance.version_id,
            instance_type=instance.instance_type,
            instance_status=status,
            icms_request_id=instance.id,
            sis_request_id=instance.id,
            nca_id=instance.nca_id,
            gpu=instance.gpu,
            backend=cluster.group_name,
            location=cluster.name,
            instance_created_at=instance.created_at,
            instance_updated_at=instance.updated_at,
        )


class FailureDto(Wire):
    """Why an instance failed; ``permanent``: trying again cannot help."""

    kind: str
    message: str
    permanent: bool


class SkywayInstanceDto(Wire):
    """A live instance as ngcsdk lists it (clusters page, section 8). Its pod and container are itself."""

    instance_id: str
    state: str
    location: str
    instance_type: str
    pod_name: str
    container_name: str

    @staticmethod
    def of(instance: Instance, clusters: Clusters) -> SkywayInstanceDto | None:
        """None for an instance that has ended."""
        state = _SHOWN.get(instance.status)
        if state is None:
            return None
        cluster = clusters.get(instance.cluster_id) or clusters.local
        return SkywayInstanceDto(
            instance_id=instance.id,
            state=state,
            location=cluster.name,
            instance_type=instance.instance_type,
            pod_name=instance.id,
            container_name=CONTAINER,
        )


class SkywayInstancesResponse(Wire):
    """The live instances of a version."""

    function_id: str
    function_version_id: str
    backend: str
    instances: tuple[SkywayInstanceDto, ...]


class PhaseDto(Wire):
    """A phase of an instance's start: queued, placing, pulling, starting, loading. No ``seconds``: it goes on."""

    phase: str
    began_at: Timestamp
    seconds: float | None = None


class InstanceDto(Wire):
    """Everything recorded about one instance. gpufn's own."""

    instance_id: str
    deployment_id: str
    gpu_specification_id: str
    gpu: str
    instance_type: str
    cluster: str | None = None
    """The name of its cluster; none before it is placed."""
    status: str
    wanted: bool
    detail: str
    failure: FailureDto | None = None
    created_at: Timestamp
    updated_at: Timestamp
    ready_at: Timestamp | None = None
    unhealthy_at: Timestamp | None = None
    draining_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    phases: tuple[PhaseDto, ...] = ()
    """Where the time of its start went, or goes."""

    @staticmethod
    def of(instance: Instance, clusters: Clusters) -> InstanceDto:
        cluster = clusters.get(instance.cluster_id) if instance.cluster_id else None
        failure = instance.failure
        return InstanceDto(
            instance_id=instance.id,
            deployment_id=instance.deployment_id,
            gpu_specification_id=instance.specification_id,
            gpu=instance.gpu,
            instance_type=instance.instance_type,
            cluster=cluster.name if cluster is not None else None,
            status=instance.status.value,
            wanted=instance.wanted,
            detail=instance.detail,
            failure=failure
            and FailureDto(kind=failure.kind.value, message=failure.message, permanent=failure.permanent),
            created_at=instance.created_at,
            updated_at=instance.updated_at,
            ready_at=instance.ready_at,
            unhealthy_at=instance.unhealthy_at,
            draining_at=instance.draining_at,
            ended_at=instance.ended_at,
            phases=tuple(
                PhaseDto(phase=s.phase.value, began_at=s.began, seconds=s.seconds)
                for s in spans(instance.phases, ended=instance.ended_at)
            ),
        )


class InstancesResponse(Wire):
    """Every recorded instance of a version, oldest first."""

    instances: tuple[InstanceDto, ...]
