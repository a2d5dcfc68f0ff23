"""What clients send about deployments (control-plane page, sections 8.1, 8.6 and 8.7)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpufn.model.errors import Invalid
from gpufn.wire.autoscaling import AnyAutoscalingPolicy, AutoscalingConfigurationDto
from gpufn.wire.base import Wire
from gpufn.wire.scalars import Int, OptionalName, Uuid, absent_if_blank

MAX_SPECIFICATIONS = 64
MAX_PLACES = 256
MAX_CONCURRENCY = 16384


def _without_blanks(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def _empty_for_null(value: Any) -> Any:
    return () if value is None else value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text.strip()


Names = Annotated[
    tuple[Annotated[str, Field(max_length=256)], ...],
    BeforeValidator(_empty_for_null),
    Field(max_length=MAX_PLACES),
    AfterValidator(_without_blanks),
]
Minimum = Annotated[Int, Field(ge=0)]
Maximum = Annotated[Int, Field(gt=0)]
Concurrency = Annotated[Int, Field(ge=1, le=MAX_CONCURRENCY)]
Memory = Annotated[str, Field(max_length=16, pattern=r"^[0-9]+ *([KMGT]i?B?)?$")]
Name = Annotated[str, Field(max_length=256), AfterValidator(_not_blank)]


class GpuSpecificationRequest(Wire):
    """An element of ``deploymentSpecifications`` at creation. Members that only answers carry are ignored."""

    gpu: Name
    instance_type: Name
    min_instances: Minimum
    max_instances: Maximum
    backend: OptionalName = None
    clusters: Names = ()
    regions: Names = ()
    attributes: Names = ()
    availability_zones: Names = ()
    min_gpu_memory: Annotated[Memory | None, BeforeValidator(absent_if_blank)] = None
    """The least GPU memory of an instance, all its devices together. gpufn's own."""
    max_request_concurrency: Concurrency | None = None
    preferred_order: Annotated[Int, Field(ge=1, le=99)] | None = None
    configuration: Any = None
    helm_validation_policy: Any = None
    autoscaling_configuration: AutoscalingConfigurationDto | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GpuSpecificationRequest:
        if self.min_instances > self.max_instances:
            raise ValueError(
                f"minInstances {self.min_instances} must not be greater than maxInstances {self.max_instances}"
            )
        if self.backend and self.clusters:
            raise ValueError("backend and clusters cannot be given together; leave one out")
        return self


class CreateDeploymentRequest(Wire):
    """The body of POST."""

    deployment_specifications: Annotated[
        tuple[GpuSpecificationRequest, ...], Field(min_length=1, max_length=MAX_SPECIFICATIONS)
    ]


class GpuSpecificationUpdate(Wire):
    """An element of ``deploymentSpecifications`` in a PUT."""

    gpu_specification_id: Annotated[Uuid | None, BeforeValidator(absent_if_blank)] = None
    gpu: OptionalName = None
    instance_type: OptionalName = None
    backend: OptionalName = None
    clusters: Names = ()
    min_instances: Minimum
    max_instances: Maximum
    max_request_concurrency: Concurrency | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GpuSpecificationUpdate:
        if self.min_instances > self.max_instances:
            raise ValueError(
                f"minInstances {self.min_instances} must not be greater than maxInstances {self.max_instances}"
            )
        return self


class UpdateDeploymentRequest(Wire):
    """The body of PUT."""

    deployment_specifications: Annotated[
        tuple[GpuSpecificationUpdate, ...], Field(min_length=1, max_length=MAX_SPECIFICATIONS)
    ]


class PatchGpuSpecificationRequest(Wire):
    """The body of PATCH. A null autoscaling configuration keeps the old one; the platform's policy deletes it."""

    min_instances: Minimum | None = None
    max_instances: Maximum | None = None
    autoscaling_configuration: AutoscalingConfigurationDto | None = None
    autoscaling_configuration_policy: AnyAutoscalingPolicy | None = None

    @model_validator(mode="after")
    def _effective(self) -> PatchGpuSpecificationRequest:
        given = (
            self.min_instances,
            self.max_instances,
            self.autoscaling_configuration,
            self.autoscaling_configuration_policy,
        )
        if all(value is None for value in given):
            raise Invalid(
                "at least one of minInstances, maxInstances, autoscalingConfiguration, "
                "autoscalingConfigurationPolicy must be given"
            )
        return self
