"""Functions and versions as clients see them (control-plane page, section 6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpufn.model.function import FunctionVersion
from gpufn.model.status import FunctionStatus
from gpufn.wire.artifacts import FunctionModelDto, FunctionResourceDto
from gpufn.wire.base import Wire
from gpufn.wire.functions import EnvironmentVariableDto, HealthDto
from gpufn.wire.instances import ActiveInstanceDto
from gpufn.wire.rates import RateLimitDto
from gpufn.wire.scalars import Timestamp
from gpufn.wire.telemetries import TelemetriesDto

HIDDEN = frozenset(
    {
        "inference_url",
        "inference_port",
        "container_args",
        "container_environment",
        "container_image",
        "models",
        "resources",
        "helm_chart",
        "helm_chart_service_name",
        "active_instances",
        "secrets",
        "rate_limit",
    }
)
"""What only the owner sees of a version."""


class FunctionDto(Wire):
    """One version. What was not given is absent; empty lists of tags, models and resources are absent too."""

    id: str
    version_id: str
    nca_id: str
    name: str
    status: str
    health_uri: str
    health: HealthDto
    created_at: Timestamp
    function_type: str
    api_body_format: str
    description: str
    inference_url: str | None = None
    inference_port: int | None = None
    container_image: str | None = None
    container_args: str | None = None
    container_environment: tuple[EnvironmentVariableDto, ...] | None = None
    models: tuple[FunctionModelDto, ...] | None = None
    resources: tuple[FunctionResourceDto, ...] | None = None
    helm_chart: str | None = None
    helm_chart_service_name: str | None = None
    tags: tuple[str, ...] | None = None
    rate_limit: RateLimitDto | None = None
    llm_invocation_config: dict[str, Any] | None = None
    telemetries: TelemetriesDto | None = None
    secrets: tuple[str, ...] | None = None
    """Names only, and only where they are asked for."""
    active_instances: tuple[ActiveInstanceDto, ...] | None = None
    owned_by_different_account: bool | None = None
    """True for a version that another account shares; absent for one's own, never false."""

    def seen_from_outside(self) -> FunctionDto:
        """The version as an account sees it that does not own it (section 5): how it is built and run is hidden."""
        hidden = dict.fromkeys(HIDDEN & type(self).model_fields.keys())
        return self.model_copy(update={**hidden, "owned_by_different_account": True})

    @staticmethod
    def of(
        version: FunctionVersion,
        status: FunctionStatus,
        active: tuple[ActiveInstanceDto, ...] | None = None,
        secrets: Sequence[str] = (),
    ) -> FunctionDto:
        """A version of the caller's own account. ``active`` None leaves the instances out."""
        d = version.definition
        environment = d.container_environment
        return FunctionDto(
            id=version.function_id,
            version_id=version.id,
            nca_id=version.nca_id,
            name=version.name,
            status=status.value,
            health_uri=d.health.uri,
            health=HealthDto.of(d.health),
            created_at=version.created_at,
            function_type=d.function_type.value,
            api_body_format=d.api_body_format.value,
            description=d.description,
            inference_url=d.inference_url,
            inference_port=d.inference_port,
            container_image=d.container_image,
            container_args=d.container_args,
            container_environment=environment
            and tuple(EnvironmentVariableDto(key=key, value=value) for key, value in environment),
            models=tuple(FunctionModelDto.of(m) for m in d.models) or None,
            resources=tuple(FunctionResourceDto.of(r) for r in d.resources) or None,
            helm_chart=d.helm_chart,
            helm_chart_service_name=d.helm_chart_service_name,
            tags=version.tags or None,
            rate_limit=version.rate_limit and RateLimitDto.of(version.rate_limit),
            llm_invocation_config=version.llm_invocation,
            telemetries=TelemetriesDto.of(d.telemetries) if d.telemetries is not None else None,
            secrets=tuple(secrets) or None,
            active_instances=active,
        )


class FunctionResponse(Wire):
    """One version, wrapped."""

    function: FunctionDto


class ListFunctionsResponse(Wire):
    """One element per version."""

    functions: tuple[FunctionDto, ...]


class ListFunctionIdsResponse(Wire):
    """Distinct function ids."""

    function_ids: tuple[str, ...]
