"""Deployments as clients see them (control-plane page, section 8.2)."""

from __future__ import annotations

from gpufn.model.cluster import Clusters
from gpufn.model.deployment import Deployment, GpuSpecification
from gpufn.model.status import Condition, HealthInfo
from gpufn.wire.autoscaling import AutoscalingConfigurationDto
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Timestamp

NO_REQUEST = "00000000-0000-0000-0000-000000000000"
"""Shown where no request id is known (control-plane page, section 7)."""


class GpuSpecificationDto(Wire):
    """One specification, with what the catalogue of instance types knows about it."""

    gpu_specification_id: str
    gpu: str
    instance_type: str
    backend: str | None = None
    min_instances: int
    max_instances: int
    max_request_concurrency: int
    preferred_order: int
    clusters: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    availability_zones: tuple[str, ...] | None = None
    min_gpu_memory: str | None = None
    autoscaling_configuration: AutoscalingConfigurationDto | None = None
    cpu_arch: str | None = None
    os: str | None = None
    driver_version: str | None = None
    storage: str | None = None
    system_memory: str | None = None
    gpu_memory: str | None = None

    @staticmethod
    def of(spec: GpuSpecification, clusters: Clusters) -> GpuSpecificationDto:
        found = clusters.shape(spec.gpu, spec.instance_type)
        known = found[1] if found is not None else None
        place = spec.placement
        return GpuSpecificationDto(
            gpu_specification_id=spec.id,
            gpu=spec.gpu,
            instance_type=spec.instance_type,
            backend=place.backend,
            min_instances=spec.min_instances,
            max_instances=spec.max_instances,
            max_request_concurrency=spec.max_request_concurrency,
            preferred_order=spec.preferred_order,
            clusters=place.clusters or None,
            regions=place.regions or None,
            attributes=place.attributes or None,
            availability_zones=place.availability_zones or None,
            min_gpu_memory=place.min_gpu_memory,
            autoscaling_configuration=AutoscalingConfigurationDto.of(spec.autoscaling) if spec.autoscaling else None,
            cpu_arch=known.cpu_arch if known else None,
            os=known.os if known else None,
            driver_version=known.driver_version if known else None,
            storage=known.storage if known else None,
            system_memory=known.system_memory if known else None,
            gpu_memory=known.gpu_memory if known else None,
        )


class HealthInfoDto(Wire):
    """One thing that is wrong. The request id goes by both its names (section 7)."""

    icms_request_id: str
    sis_request_id: str
    gpu: str
    backend: str
    instance_type: str
    error: str

    @staticmethod
    def of(info: HealthInfo, clusters: Clusters) -> HealthInfoDto:
        cluster = clusters.get(info.cluster_id) if info.cluster_id else None
        request_id = info.instance_id or NO_REQUEST
        return HealthInfoDto(
            icms_request_id=request_id,
            sis_request_id=request_id,
            gpu=info.gpu,
            backend=cluster.group_name if cluster is not None else info.backend,
            instance_type=info.instance_type,
            error=info.error,
        )


class FunctionDeploymentDto(Wire):
    """A deployment. ``healthInfo`` is absent when nothing is wrong."""

    deployment_id: str
    function_id: str
    function_version_id: str
    function_name: str
    nca_id: str
    function_status: str
    deployment_specifications: tuple[GpuSpecificationDto, ...]
    health_info: tuple[HealthInfoDto, ...] | None = None
    created_at: Timestamp
    last_updated_at: Timestamp

    @staticmethod
    def of(deployment: Deployment, name: str, condition: Condition, clusters: Clusters) -> FunctionDeploymentDto:
        return FunctionDeploymentDto(
            deployment_id=deployment.id,
            function_id=deployment.function_id,
            function_version_id=deployment.version_id,
            function_name=name,
            nca_id=deployment.nca_id,
            function_status=condition.status.value,
            deployment_specifications=tuple(GpuSpecificationDto.of(s, clusters) for s in deployment.specifications),
            health_info=tuple(HealthInfoDto.of(h, clusters) for h in condition.health) or None,
            created_at=deployment.created_at,
            last_updated_at=deployment.updated_at,
        )


class DeploymentResponse(Wire):
    """One deployment, wrapped."""

    deployment: FunctionDeploymentDto


class ListDeploymentsResponse(Wire):
    """Every deployment of the account."""

    deployments: tuple[FunctionDeploymentDto, ...]


class GpuSpecificationResponse(Wire):
    """One specification, wrapped."""

    gpu_specification: GpuSpecificationDto
